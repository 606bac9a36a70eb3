from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import LEDGER, NOW, SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core import graph_mermaid, graph_svg
from issuer.core.graph_mermaid import mermaid
from issuer.core.graph_svg import svg
from issuer.core.patterns import parse_pattern
from issuer.core.policy_graph import MAX_NODES, Edge, Graph, GraphTooLarge, Kind, Node, Style, policy_graph

MAIL = "https://mail.example"
HOSTILE = '"]; click n0 href "javascript:alert(1)" <script>&\x00\ufffe|#quot; end'


def lines(graph: Graph) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(edge.source.name, edge.target.name, edge.style.value, edge.scopes) for edge in graph.edges]


def test_a_grant_is_a_line_in_the_style_of_its_highest_risk() -> None:
    found = policy_graph(policy(grants(grant(scopes="[read, write]"))), NOW)
    assert lines(found) == [(SETTLER, LEDGER, "high", ("read", "write"))]


def test_an_application_stands_between_once_for_each_audience() -> None:
    ledger = grant("a", application="payments")
    mail = grant("b", "[send]", audience=MAIL, application="payments")
    found = policy_graph(policy(grants(ledger, mail)), NOW)
    applications = [node for node in found.nodes if node.kind is Kind.APPLICATION]
    assert applications == [
        Node(Kind.APPLICATION, "payments", LEDGER),
        Node(Kind.APPLICATION, "payments", MAIL),
    ]
    assert len(found.edges) == 4


def test_grants_that_give_nothing_now_are_told_apart() -> None:
    ended, tried = grant("a", expires="2020-01-01"), grant("b", mode="audit")
    assert [edge.style for edge in policy_graph(policy(grants(ended, tried)), NOW).edges] == [
        Style.AUDIT,
        Style.INACTIVE,
    ]


def test_prohibitions_are_drawn_where_they_take_something() -> None:
    other = "spiffe://prod.example/ns/other/**"
    rules = prohibitions(
        prohibition("p"),
        prohibition("q", other),
        prohibition("r", "spiffe://prod.example/**", "['*']", mode="audit"),
    )
    found = policy_graph(policy(grants(grant()), rules), NOW)
    assert [(edge.style, edge.rules) for edge in found.edges if edge.style is not Style.LOW] == [
        (Style.AUDIT, ("r",)),
        (Style.PROHIBITED, ("p",)),
    ]


def test_a_part_can_be_asked_for() -> None:
    rules = grants(grant("a"), grant("b", "[send]", "spiffe://prod.example/ns/mail/*", MAIL))
    whole = policy(rules)
    assert lines(policy_graph(whole, NOW, audiences=[MAIL])) == [
        ("spiffe://prod.example/ns/mail/*", MAIL, "low", ("send",))
    ]
    asked = parse_pattern("spiffe://prod.example/ns/mail/sender")
    assert [node.name for node in policy_graph(whole, NOW, workloads=[asked]).nodes] == [
        "spiffe://prod.example/ns/mail/*",
        MAIL,
    ]


def test_a_rule_is_told_with_its_description() -> None:
    (edge,) = policy_graph(policy(grants(grant(description="'why: now'"))), NOW).edges
    assert edge.rules == ("g: why: now",)


def test_more_than_can_be_read_is_refused() -> None:
    many = [grant(f"g{number}", workload=f"spiffe://prod.example/{number}") for number in range(MAX_NODES)]
    with pytest.raises(GraphTooLarge, match="401 nodes and 400 edges are more than 400 and 500") as refused:
        policy_graph(policy(grants(*many)), NOW)
    assert (refused.value.nodes, refused.value.edges) == (401, 400)


def drawn(name: str) -> Graph:
    nodes = [Node(Kind.WORKLOAD, name), Node(Kind.APPLICATION, name, name), Node(Kind.AUDIENCE, name)]
    edges = [Edge(nodes[0], nodes[2], style, (), (name,)) for style in Style]
    return Graph(tuple(nodes), tuple(edges))


def test_mermaid_shows_every_style_and_shape() -> None:
    text = mermaid(drawn("x"))
    assert text.startswith("flowchart LR\n")
    assert [line.strip() for line in text.splitlines()[1:4]] == [
        'n0["x"]:::workload',
        'n1("x"):::application',
        'n2[["x"]]:::audience',
    ]
    assert 'n0 -.->|"not all"| n2' in text
    assert 'n0 -->|"all - inactive"| n2' in text
    assert text.count("linkStyle") == len(Style)


@given(st.text(max_size=30).map(lambda text: HOSTILE + text))
def test_no_name_breaks_out_of_its_label(name: str) -> None:
    for line in mermaid(drawn(name)).splitlines():
        assert line.count('"') in {0, 2}
        assert "<" not in line
    assert graph_mermaid.escaped('a"b') == "a#34;b"
    root = ET.fromstring(svg(drawn(name)))  # noqa: S314 - our own
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg", "title", "style", "rect", "text", "g", "path",
    }  # fmt: skip
    assert not any(key.startswith("on") or key == "href" for element in root.iter() for key in element.attrib)


def test_svg_shortens_what_has_no_room_and_tells_all_of_it_beside() -> None:
    long = "spiffe://prod.example/" + "x" * 100
    text = svg(drawn(long))
    assert f"<title>{long}</title>" in text
    assert "…" in text
    assert "all scopes" in text
    assert graph_svg.escaped("a\nb\x01<") == "a\nb\N{REPLACEMENT CHARACTER}&lt;"
    assert svg(Graph((), ())).endswith("</svg>")
