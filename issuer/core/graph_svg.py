"""A graph of policy as SVG: three columns, lines between them, and all that there is no room for as tooltips."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.policy_graph import Kind, Style

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from issuer.core.policy_graph import Edge, Graph, Node

_WIDTH: Final = {Kind.WORKLOAD: 380, Kind.APPLICATION: 160, Kind.AUDIENCE: 300}
_GAP: Final = 160
_ROW: Final = 34
_HEIGHT: Final = 24
_MARGIN: Final = 20
_TOP: Final = 50
_LETTER: Final = 7.3
"""The width of a letter of 12px monospace, rounded up."""
_STYLE: Final = """\
text{font:12px ui-monospace,monospace;fill:#111}.head{font-weight:bold}rect{rx:4px;stroke-width:1}
.workload{fill:#eef4fb;stroke:#3b6ea5}.application{fill:#f4f4f4;stroke:#777}.audience{fill:#eef7ee;stroke:#4a7f4a}
path{fill:none;stroke-width:1.5}path:hover{stroke-width:5}.low{stroke:#5b8c5a}.moderate{stroke:#3b73b9}
.high{stroke:#d9822b;stroke-width:2.5}.critical{stroke:#c0392b;stroke-width:4}.inactive{stroke:#b0b0b0}
.audit{stroke:#8e44ad;stroke-dasharray:2 3}.prohibited{stroke:#111;stroke-dasharray:7 4}"""


class _Box(NamedTuple):
    x: int
    y: int
    width: int


def svg(graph: Graph) -> str:
    """Return the picture, whole: no script, no font, nothing from elsewhere."""
    boxes = _placed(graph)
    bottom = max([_TOP, *(box.y + _ROW for box in boxes.values())])
    size = f'width="{_TOTAL}" height="{bottom + _ROW}" viewBox="0 0 {_TOTAL} {bottom + _ROW}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            "<title>Who reaches which audience</title>",
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *_heads(),
            *(_path(edge, boxes[edge.source], boxes[edge.target]) for edge in graph.edges),
            *(_node(node, box) for node, box in boxes.items()),
            *_legend(bottom),
            "</svg>",
        ]
    )


def _columns() -> dict[Kind, int]:
    columns, x = {}, _MARGIN
    for kind, width in _WIDTH.items():
        columns[kind] = x
        x += width + _GAP
    return columns


_COLUMNS: Final = _columns()
_TOTAL: Final = sum(_WIDTH.values()) + _GAP * (len(_WIDTH) - 1) + 2 * _MARGIN


def _placed(graph: Graph) -> Mapping[Node, _Box]:
    rows = dict.fromkeys(Kind, 0)
    boxes = {}
    for node in graph.nodes:
        boxes[node] = _Box(_COLUMNS[node.kind], _TOP + rows[node.kind] * _ROW, _WIDTH[node.kind])
        rows[node.kind] += 1
    return boxes


def _heads() -> Iterator[str]:
    for kind, x in _COLUMNS.items():
        yield f'<text class="head" x="{x}" y="{_TOP - 16}">{kind}s</text>'


def _node(node: Node, box: _Box) -> str:
    room = int((box.width - 16) / _LETTER)
    shown = node.name if len(node.name) <= room else f"{node.name[: room // 2 - 1]}…{node.name[-(room - room // 2) :]}"
    rect = f'<rect class="{node.kind}" x="{box.x}" y="{box.y}" width="{box.width}" height="{_HEIGHT}"/>'
    text = f'<text x="{box.x + 8}" y="{box.y + 16}">{escaped(shown)}</text>'
    return f"<g><title>{escaped(node.name)}</title>{rect}{text}</g>"


def _path(edge: Edge, source: _Box, target: _Box) -> str:
    x, y = source.x + source.width, source.y + _HEIGHT // 2
    to_x, to_y = target.x, target.y + _HEIGHT // 2
    bend = (to_x - x) // 2
    line = f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
    scopes = " ".join(edge.scopes) or "all scopes"
    words = "\n".join([f"{edge.source.name} to {edge.target.name}", f"{edge.style}: {scopes}", *edge.rules])
    return f'<path class="{edge.style}" d="{line}"><title>{escaped(words)}</title></path>'


def _legend(y: int) -> Iterator[str]:
    for number, style in enumerate(Style):
        x = _MARGIN + number * 150
        yield f'<path class="{style}" d="M{x} {y}h40"/><text x="{x + 48}" y="{y + 4}">{style}</text>'


def escaped(text: str) -> str:
    """Return ``text`` as XML 1.0 may have it (section 2.2): markup as entities, characters that it forbids replaced."""
    return escape("".join(each if each == "\n" or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
