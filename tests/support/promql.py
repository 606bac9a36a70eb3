"""What PromQL expressions use: metrics, with the labels that are matched, and labels that are grouped or joined by."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import promql_parser
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

GRAFANA_MACROS = {"$__rate_interval": "5m", "$__range": "1h"}


@dataclass
class Uses:
    """What an expression uses.

    Attributes:
        selectors: The name of each metric, and the labels that are matched with what they must be.
        labels: Labels that results are grouped or joined by.
    """

    selectors: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)


def uses_of(expression: str) -> Uses:
    """Return what an expression uses; raises ValueError when it is not PromQL."""
    for macro, meaning in GRAFANA_MACROS.items():
        expression = expression.replace(macro, meaning)
    found = Uses()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            matched = {matcher.name: matcher.value for matcher in node.matchers.matchers}
            found.selectors.append((matched.pop("__name__", node.name or ""), matched))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.labels.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier:
            found.labels.update(node.modifier.matching.labels if node.modifier.matching else ())
            found.labels.update(node.modifier.group_labels or ())
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def told_labels(text: str) -> set[str]:
    """Return the labels that a template names: ``{{ $labels.reason }}`` of Prometheus, ``{{reason}}`` of Grafana."""
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text))


def alerts(path: Path) -> list[dict[str, Any]]:
    """Return the alerts of a file of Prometheus rules."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def targets(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each panel's title, expression and legend of a Grafana board, and the queries of its variables."""
    board = json.loads(path.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if match := re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", "")):
            yield variable["name"], f"sum by ({match[2]}) ({match[1]})", ""
