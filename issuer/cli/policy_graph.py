"""``issuer policy graph``: who reaches what, as a picture."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, CeilingOption, OutputOption, PolicyOption, load, moment
from issuer.core.graph_mermaid import mermaid
from issuer.core.graph_svg import svg
from issuer.core.patterns import PatternError, parse_pattern
from issuer.core.policy_graph import GraphTooLarge, policy_graph

if TYPE_CHECKING:
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_graph import Graph, Node


class Format(StrEnum):
    """In which language the picture is drawn."""

    MERMAID = "mermaid"
    SVG = "svg"


_DRAWN = {Format.MERMAID: mermaid, Format.SVG: svg}


def graph(
    policy: PolicyOption = Path("policy"),
    drawn_as: Annotated[Format, typer.Option("--format", "-f", help="The language of the picture.")] = Format.MERMAID,
    audience: Annotated[list[str] | None, typer.Option(help="Only what is about this one. Repeatable.")] = None,
    identity: Annotated[
        list[str] | None, typer.Option(help="Only rules about this workload, or about some of a pattern. Repeatable.")
    ] = None,
    at: AtOption = None,
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Draw which workloads reach which audiences, and for which applications.

    Lines have the colour of the highest risk that they give; prohibitions are dashed, grants not in force grey.

    [bold]Examples[/bold]

        issuer policy graph --audience https://ledger.example.org
        issuer policy graph --format svg > policy.svg
    """
    workloads = [_pattern(text) for text in identity or ()]
    loaded = load(policy, legacy_max_ttl)
    for name in audience or ():
        if name not in loaded.audiences:
            fail(f"the policy declares no audience {name!r}")
    try:
        found = policy_graph(loaded, moment(at), audiences=audience or (), workloads=workloads)
    except GraphTooLarge as error:
        fail(f"{error}\ndraw a part of it, by --audience or --identity")
    typer.echo(json.dumps(_document(found)) if output is Output.JSON else _DRAWN[drawn_as](found))


def _pattern(text: str) -> WorkloadPattern:
    try:
        return parse_pattern(text)
    except PatternError as error:
        fail(f"--identity {text}: {error.message}", ExitCode.USAGE)


def _document(graph: Graph) -> dict[str, object]:
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    return {
        "nodes": [_node_document(node) for node in graph.nodes],
        "edges": [
            {
                "from": numbers[edge.source],
                "to": numbers[edge.target],
                "style": edge.style,
                "scopes": list(edge.scopes),
                "rules": list(edge.rules),
            }
            for edge in graph.edges
        ],
    }


def _node_document(node: Node) -> dict[str, str]:
    return {"kind": node.kind, "name": node.name} | ({"audience": node.place} if node.place else {})
