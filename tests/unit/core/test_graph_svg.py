from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from issuer.core.graph_svg import escaped, svg
from issuer.core.policy_graph import Edge, Graph, Kind, Node, Style

SVG = "{http://www.w3.org/2000/svg}"
WORKLOAD, APPLICATION = Node(Kind.WORKLOAD, "spiffe://d.example/a"), Node(Kind.APPLICATION, "pay", "x")
AUDIENCE = Node(Kind.AUDIENCE, "https://x.example")


def parsed(graph: Graph) -> ET.Element:
    return ET.fromstring(svg(graph))  # noqa: S314 - our own


def boxes(root: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(rect.get("class"), rect.get("x")) for rect in root.iterfind(f"{SVG}g/{SVG}rect")]


def test_nodes_stand_in_three_columns_with_their_whole_name_as_tooltip() -> None:
    long = Node(Kind.WORKLOAD, f"spiffe://d.example/{'x' * 90}/end")
    root = parsed(Graph((WORKLOAD, long, APPLICATION, AUDIENCE), ()))
    assert boxes(root) == [("workload", "20"), ("workload", "20"), ("application", "560"), ("audience", "880")]
    told = {group.findtext(f"{SVG}title"): group.findtext(f"{SVG}text") for group in root.iterfind(f"{SVG}g")}
    assert told[WORKLOAD.name] == WORKLOAD.name
    shown = told[long.name]
    assert shown is not None
    assert (shown[:9], shown[-4:], len(shown) < 52) == ("spiffe://", "/end", True)
    assert "…" in shown


def test_edges_have_the_class_of_their_style_and_tell_their_rules() -> None:
    edges = (
        Edge(WORKLOAD, AUDIENCE, Style.CRITICAL, ("a", "b"), ("g: why", "h")),
        Edge(WORKLOAD, AUDIENCE, Style.PROHIBITED, (), ("p",)),
    )
    paths = parsed(Graph((WORKLOAD, AUDIENCE), edges)).findall(f"{SVG}path")
    ends = f"{WORKLOAD.name} to {AUDIENCE.name}"
    assert [(path.get("class"), path.findtext(f"{SVG}title")) for path in paths[:2]] == [
        ("critical", f"{ends}\ncritical: a b\ng: why\nh"),
        ("prohibited", f"{ends}\nprohibited: all scopes\np"),
    ]
    assert paths[0].get("d") == "M400 62C640 62 640 62 880 62"
    assert [path.get("class") for path in paths[2:]] == list(Style)


def test_nothing_is_a_picture_too() -> None:
    assert boxes(parsed(Graph((), ()))) == []


@given(st.text(), st.text())
def test_any_text_is_text(name: str, description: str) -> None:
    node = Node(Kind.WORKLOAD, f"<script>{name}")
    root = parsed(Graph((node, AUDIENCE), (Edge(node, AUDIENCE, Style.LOW, (description,), (f"'\"><{description}",)),)))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "rect",
        "text",
        "path",
        "g",
    }
    assert all(not attribute.startswith(("on", "href")) for element in root.iter() for attribute in element.attrib)


def test_what_xml_forbids_is_replaced() -> None:
    assert escaped("a\nb\x01\ufffe<") == "a\nb\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}&lt;"
