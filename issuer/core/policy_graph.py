"""A policy as a picture: workloads, the applications that they act for, the audiences that they reach.

Grants are lines from a workload pattern to an audience, over an application where they name one; prohibitions lead from
theirs to the audience. An application is drawn once for each audience, so that every path of lines is access that
somebody has: were it drawn once, whoever acts for it would seem to reach whatever anybody reaches for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.candidates import is_in_force
from issuer.core.index import ANY_AUDIENCE
from issuer.core.pattern_overlap import OverlapIndex
from issuer.core.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import GrantRule, Policy, ProhibitionRule

MAX_NODES: Final = 400
"""More cannot be read. Browsers draw Mermaid charts of up to 500 edges unless told otherwise."""
MAX_EDGES: Final = 500


class Kind(StrEnum):
    """What a node stands for; in the order of the columns."""

    WORKLOAD = "workload"
    APPLICATION = "application"
    AUDIENCE = "audience"


class Style(StrEnum):
    """What kind of line an edge is: the highest risk of what it gives, unless it gives nothing."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"
    INACTIVE = "inactive"
    AUDIT = "audit"
    PROHIBITED = "prohibited"


class Node(NamedTuple):
    """A workload pattern, an application or an audience. ``place`` tells apart the nodes of one application."""

    kind: Kind
    name: str
    place: str = ""


class Edge(NamedTuple):
    """A line between two nodes. ``scopes`` is empty for all; ``rules`` are ids, with their descriptions."""

    source: Node
    target: Node
    style: Style
    scopes: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by column and name, edges in their order."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class GraphTooLarge(ValueError):
    """The picture would be of no use. ``nodes`` and ``edges`` say how much there is."""

    def __init__(self, nodes: int, edges: int) -> None:
        super().__init__(
            f"{nodes} nodes and {edges} edges are more than {MAX_NODES} and {MAX_EDGES}, which nobody could read"
        )
        self.nodes = nodes
        self.edges = edges


def policy_graph(
    policy: Policy, now: datetime, *, audiences: Iterable[str] = (), workloads: Iterable[WorkloadPattern] = ()
) -> Graph:
    """Return the picture of a policy at ``now``, of its grants and of the prohibitions that take something from them.

    Args:
        policy: What to draw.
        now: Grants that are not in force then are drawn as inactive.
        audiences: Only what is about these; everything when empty.
        workloads: Only rules that share a workload with one of these patterns; everything when empty.

    Raises:
        GraphTooLarge: It has too many nodes or edges.
    """
    named, lines = frozenset(audiences), _Lines()
    asked = _Asked(tuple(workloads)) if workloads else None
    reached = []
    for grant in policy.grants:
        if not named or grant.audience in named:
            for pattern in _drawn(grant.workloads, asked):
                lines.add_grant(grant, pattern, _style(policy, grant, now))
                reached.append(_Reached((pattern,), (grant.audience,)))
    index = OverlapIndex(reached)
    for prohibition in policy.prohibitions:
        for pattern in _drawn(prohibition.workloads, asked):
            every = prohibition.audiences if ANY_AUDIENCE not in prohibition.audiences else lines.audiences
            for audience in every:
                if any(index.overlapping(pattern, audience)):
                    lines.add_prohibition(prohibition, pattern, audience)
    return lines.graph()


class _Reached(NamedTuple):
    """What the index takes for a rule: a pattern of a grant, and its audience."""

    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...]


class _Asked:
    """The patterns that a picture is about."""

    def __init__(self, workloads: tuple[WorkloadPattern, ...]) -> None:
        self._index = OverlapIndex([_Reached(workloads, (ANY_AUDIENCE,))])

    def includes(self, pattern: WorkloadPattern) -> bool:
        return any(self._index.overlapping(pattern, ""))


def _drawn(patterns: Iterable[WorkloadPattern], asked: _Asked | None) -> Iterator[WorkloadPattern]:
    return (pattern for pattern in patterns if asked is None or asked.includes(pattern))


def _style(policy: Policy, grant: GrantRule, now: datetime) -> Style:
    if grant.mode is Mode.AUDIT:
        return Style.AUDIT
    if not is_in_force(grant, now, policy.min_ttl):
        return Style.INACTIVE
    scopes = policy.audiences[grant.audience].scopes
    return max((Style(scopes[name].risk) for name in grant.scopes), key=_TIERS.index)


_TIERS: Final = (Style.LOW, Style.MODERATE, Style.HIGH, Style.CRITICAL)


class _Lines:
    """Collects lines; those between the same nodes in the same style become one."""

    def __init__(self) -> None:
        self._found: dict[tuple[Node, Node, Style], tuple[set[str], set[str]]] = {}
        self.audiences: dict[str, None] = {}

    def add_grant(self, grant: GrantRule, pattern: WorkloadPattern, style: Style) -> None:
        self.audiences[grant.audience] = None
        workload, audience = Node(Kind.WORKLOAD, pattern.text), Node(Kind.AUDIENCE, grant.audience)
        steps = [workload, audience]
        if grant.application is not None:
            steps.insert(1, Node(Kind.APPLICATION, grant.application, grant.audience))
        for source, target in pairwise(steps):
            self._add(source, target, style, grant.scopes, grant)

    def add_prohibition(self, rule: ProhibitionRule, pattern: WorkloadPattern, audience: str) -> None:
        style = Style.PROHIBITED if rule.mode is Mode.ENFORCE else Style.AUDIT
        source, target = Node(Kind.WORKLOAD, pattern.text), Node(Kind.AUDIENCE, audience)
        self._add(source, target, style, rule.scopes or frozenset(), rule)

    def _add(
        self, source: Node, target: Node, style: Style, scopes: Iterable[str], rule: GrantRule | ProhibitionRule
    ) -> None:
        names, rules = self._found.setdefault((source, target, style), (set(), set()))
        names.update(scopes)
        rules.add(f"{rule.id}: {rule.description}" if rule.description else rule.id)

    def graph(self) -> Graph:
        nodes = {node for source, target, _ in self._found for node in (source, target)}
        if len(nodes) > MAX_NODES or len(self._found) > MAX_EDGES:
            raise GraphTooLarge(len(nodes), len(self._found))
        edges = (
            Edge(*key, tuple(sorted(scopes)), tuple(sorted(rules))) for key, (scopes, rules) in self._found.items()
        )
        columns = list(Kind)
        ordered = sorted(nodes, key=lambda node: (columns.index(node.kind), node.place, node.name))
        return Graph(tuple(ordered), tuple(sorted(edges)))
