from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.graph_mermaid import escaped, mermaid
from issuer.core.policy_graph import Edge, Graph, Kind, Node, Style

WORKLOAD, APPLICATION = Node(Kind.WORKLOAD, "spiffe://d.example/a"), Node(Kind.APPLICATION, "pay", "x")
AUDIENCE = Node(Kind.AUDIENCE, "https://x.example")


def chart(*edges: Edge) -> list[str]:
    return mermaid(Graph((WORKLOAD, APPLICATION, AUDIENCE), edges)).splitlines()


def test_nodes_have_the_shape_and_the_class_of_their_kind() -> None:
    assert chart()[:4] == [
        "flowchart LR",
        '  n0["spiffe://d.example/a"]:::workload',
        '  n1("pay"):::application',
        '  n2[["https://x.example"]]:::audience',
    ]
    assert [line.split()[1] for line in chart() if "classDef" in line] == ["workload", "application", "audience"]
    assert not [line for line in chart() if "linkStyle" in line]


@pytest.mark.parametrize(
    ("style", "scopes", "line"),
    [
        (Style.LOW, ("a", "b"), '-->|"a b"|'),
        (Style.PROHIBITED, (), '-.->|"not all"|'),
        (Style.PROHIBITED, ("a",), '-.->|"not a"|'),
        (Style.INACTIVE, ("a",), '-->|"a - inactive"|'),
        (Style.AUDIT, ("a",), '-.->|"a - audit"|'),
    ],
)
def test_edges_say_what_they_give(style: Style, scopes: tuple[str, ...], line: str) -> None:
    assert f"  n0 {line} n2" in chart(Edge(WORKLOAD, AUDIENCE, style, scopes, ("g",)))


def test_edges_of_a_style_look_alike_and_risk_stands_out() -> None:
    styles = (Style.CRITICAL, Style.LOW, Style.CRITICAL)
    lines = chart(*(Edge(WORKLOAD, AUDIENCE, style, ("a",), ()) for style in styles))
    assert lines[-2:] == ["  linkStyle 1 stroke:#5b8c5a", "  linkStyle 0,2 stroke:#c0392b,stroke-width:4px"]


HOSTILE = '"]; click n0 "javascript:alert(1)"\n  n9["<img src=x onerror=alert(1)>`#quot;'


def test_a_hostile_name_is_text() -> None:
    told = mermaid(Graph((Node(Kind.AUDIENCE, HOSTILE),), ()))
    (line,) = [line for line in told.splitlines() if "n0" in line]
    assert re.fullmatch(r'  n0\[\["(?:[A-Za-z0-9 /:._-]|#[0-9]+;)*"\]\]:::audience', line)
    assert escaped("a&\u202eb") == "a#38;#8238;b"


@given(st.text())
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    told = escaped(text)
    assert re.fullmatch(r"(?:[A-Za-z0-9 /:._-]|#[0-9]+;)*", told)
    assert re.sub(r"#([0-9]+);", lambda found: chr(int(found[1])), told) == " ".join(text.split())
