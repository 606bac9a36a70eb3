from __future__ import annotations

import pytest
from support.policies import LEDGER, NOW, SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core.patterns import parse_pattern
from issuer.core.policy_graph import Edge, Graph, GraphTooLarge, Kind, Node, Style, policy_graph

MAIL = "https://mail.example"
OTHER = "spiffe://prod.example/ns/reports/sa/other"
DOMAIN = "spiffe://prod.example/**"


def drawn(*sections: str, audiences: tuple[str, ...] = (), workloads: tuple[str, ...] = ()) -> Graph:
    patterns = [parse_pattern(text) for text in workloads]
    return policy_graph(policy(*sections), NOW, audiences=audiences, workloads=patterns)


def lines(graph: Graph) -> set[tuple[str, str, str]]:
    return {(edge.source.name, edge.target.name, edge.style) for edge in graph.edges}


def test_a_grant_leads_from_workload_to_audience() -> None:
    graph = drawn(grants(grant(scopes="[read, write]", description="why"), grant("h", "[report, write]")))
    workload, audience = Node(Kind.WORKLOAD, SETTLER), Node(Kind.AUDIENCE, LEDGER)
    assert graph.nodes == (workload, audience)
    assert graph.edges == (Edge(workload, audience, Style.HIGH, ("read", "report", "write"), ("g: why", "h")),)


def test_over_the_application_that_it_names() -> None:
    graph = drawn(grants(grant(application="payments")))
    assert lines(graph) == {(SETTLER, "payments", "low"), ("payments", LEDGER, "low")}


def test_no_path_leads_where_nobody_may_go() -> None:
    """Both act for one application, each at its own audience."""
    rules = (grant("a", application="x"), grant("b", "[send]", workload=OTHER, audience=MAIL, application="x"))
    graph = drawn(grants(*rules))
    assert [node.place for node in graph.nodes if node.kind is Kind.APPLICATION] == [LEDGER, MAIL]
    targets = {edge.source: edge.target for edge in graph.edges}
    assert targets[targets[Node(Kind.WORKLOAD, SETTLER)]].name == LEDGER
    assert targets[targets[Node(Kind.WORKLOAD, OTHER)]].name == MAIL


@pytest.mark.parametrize(
    ("scopes", "style"), [("[read]", "low"), ("[report, read]", "moderate"), ("[refund]", "critical")]
)
def test_the_highest_risk_stands_out(scopes: str, style: str) -> None:
    assert lines(drawn(grants(grant(scopes=scopes)))) == {(SETTLER, LEDGER, style)}


def test_what_gives_nothing_now_is_told_apart() -> None:
    rules = (
        grant("a", expires="2026-01-01"),
        grant("b", workload=OTHER, not_before="2026-11-02"),
        grant("c", workload=DOMAIN, mode="audit"),
    )
    assert lines(drawn(grants(*rules))) == {
        (SETTLER, LEDGER, "inactive"),
        (OTHER, LEDGER, "inactive"),
        (DOMAIN, LEDGER, "audit"),
    }


def test_prohibitions_are_drawn_where_they_take_something() -> None:
    rules = prohibitions(
        prohibition("p", DOMAIN, "['*']"),
        prohibition("q", scopes="[refund]", mode="audit"),
        prohibition("elsewhere", audiences=f"['{MAIL}']"),
        prohibition("others", OTHER),
    )
    graph = drawn(grants(grant()), rules)
    assert lines(graph) == {(SETTLER, LEDGER, "low"), (SETTLER, LEDGER, "audit"), (DOMAIN, LEDGER, "prohibited")}
    assert {edge.style: edge.scopes for edge in graph.edges} == {
        "low": ("read",),
        "audit": ("refund",),
        "prohibited": (),
    }


def test_a_part_can_be_drawn() -> None:
    rules = grants(grant("a"), grant("b", workload=OTHER), grant("c", "[send]", audience=MAIL)) + prohibitions(
        prohibition("p", OTHER, "['*']")
    )
    assert lines(drawn(rules, audiences=(MAIL,))) == {(SETTLER, MAIL, "low")}
    assert lines(drawn(rules, workloads=(SETTLER,))) == {(SETTLER, LEDGER, "low"), (SETTLER, MAIL, "low")}
    assert lines(drawn(rules, workloads=("spiffe://prod.example/ns/reports/**",))) == {
        (OTHER, LEDGER, "low"),
        (OTHER, LEDGER, "prohibited"),
    }
    assert drawn(rules, workloads=("spiffe://prod.example/nobody",)) == Graph((), ())


def many(count: int, *, audience: str = LEDGER) -> list[str]:
    return [grant(f"{audience[8]}{n}", workload=f"spiffe://prod.example/{n}", audience=audience) for n in range(count)]


def test_what_nobody_could_read_is_refused() -> None:
    assert len(drawn(grants(*many(399))).nodes) == 400
    with pytest.raises(GraphTooLarge, match="401 nodes and 400 edges are more than 400 and 500") as refused:
        drawn(grants(*many(400)))
    assert (refused.value.nodes, refused.value.edges) == (401, 400)
    mails = [text.replace("[read]", "[send]") for text in many(251, audience=MAIL)]
    assert len(drawn(grants(*many(250), *mails[:250])).edges) == 500
    with pytest.raises(GraphTooLarge, match="253 nodes and 501 edges"):
        drawn(grants(*many(250), *mails))
