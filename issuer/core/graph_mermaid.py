"""A graph of policy as the text of a Mermaid flowchart, which GitHub, GitLab and editors draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.policy_graph import Kind, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.policy_graph import Edge, Graph

_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 /:._-")
_SHAPES: Final = {Kind.WORKLOAD: ('["', '"]'), Kind.APPLICATION: ('("', '")'), Kind.AUDIENCE: ('[["', '"]]')}
_CLASSES: Final = {
    Kind.WORKLOAD: "fill:#eef4fb,stroke:#3b6ea5,color:#111",
    Kind.APPLICATION: "fill:#f4f4f4,stroke:#777,color:#111",
    Kind.AUDIENCE: "fill:#eef7ee,stroke:#4a7f4a,color:#111",
}
_LINES: Final = {
    Style.LOW: "stroke:#5b8c5a",
    Style.MODERATE: "stroke:#3b73b9",
    Style.HIGH: "stroke:#d9822b,stroke-width:2px",
    Style.CRITICAL: "stroke:#c0392b,stroke-width:4px",
    Style.INACTIVE: "stroke:#b0b0b0,color:#777",
    Style.AUDIT: "stroke:#8e44ad",
    Style.PROHIBITED: "stroke:#111",
}


def mermaid(graph: Graph) -> str:
    """Return the flowchart."""
    return "\n".join(["flowchart LR", *(f"  {line}" for line in _lines(graph))])


def _lines(graph: Graph) -> Iterator[str]:
    names = {node: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node, name in names.items():
        before, after = _SHAPES[node.kind]
        yield f"{name}{before}{escaped(node.name)}{after}:::{node.kind}"
    for edge in graph.edges:
        arrow = "-.->" if edge.style in {Style.PROHIBITED, Style.AUDIT} else "-->"
        yield f'{names[edge.source]} {arrow}|"{escaped(_label(edge))}"| {names[edge.target]}'
    for kind, look in _CLASSES.items():
        yield f"classDef {kind} {look}"
    for style, look in _LINES.items():
        if numbers := [str(number) for number, edge in enumerate(graph.edges) if edge.style is style]:
            yield f"linkStyle {','.join(numbers)} {look}"


def _label(edge: Edge) -> str:
    scopes = " ".join(edge.scopes) or "all"
    match edge.style:
        case Style.PROHIBITED:
            return f"not {scopes}"
        case Style.INACTIVE | Style.AUDIT:
            return f"{scopes} - {edge.style}"
        case _:
            return scopes


def escaped(text: str) -> str:
    """Return ``text`` as a quoted label shows it: all that could mean something to Mermaid or HTML as its number."""
    return "".join(each if each in _PLAIN else f"#{ord(each)};" for each in " ".join(text.split()))
