from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import NOW, SETTLER, caller, grant, grants, policy, request

from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.patterns import parse_pattern
from issuer.core.shadowing import shadowed_grants
from issuer.core.spiffe_id import SpiffeId

WIDE = "spiffe://prod.example/ns/payments/**"
FACTS = "facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]\n"


def told(*items: str, sections: str = "") -> list[tuple[str, str]]:
    loaded = policy(sections, grants(*items))
    return [(rule.id, other.id) for rule, other in shadowed_grants(loaded)]


def test_a_narrower_grant_is_shadowed_by_a_wider_one() -> None:
    assert told(grant("wide", "[read, write]", WIDE), grant("narrow")) == [("narrow", "wide")]


def test_of_two_equal_grants_the_later_one_is_told() -> None:
    assert told(grant("b"), grant("a")) == [("a", "b")]
    assert told(grant("a", workload=WIDE), grant("b", workload=WIDE), grant("c", workload=WIDE)) == [
        ("b", "a"),
        ("c", "a"),
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"scopes": "[read, write]"},
        {"workload": "spiffe://prod.example/ns/other"},
        {"application": "x"},
        {"max_ttl": "9m"},
        {"grant_types": "[client_credentials, jit]"},
        {"expires": "2030-01-01"},
        {"mode": "audit"},
        {"environments": "[build]"},
        {"audience": "https://mail.example", "scopes": "[send]"},
    ],
)
def test_a_grant_that_gives_anything_more_is_not(more: dict[str, str]) -> None:
    wide = grant("wide", workload=WIDE, max_ttl="5m", expires="2029-01-01", environments="[prod]")
    environments = "environments:\n  - {name: prod, workloads: ['spiffe://prod.example/**']}\n"
    environments += "  - {name: build, workloads: ['spiffe://build.example/**']}\n"
    same = {"max_ttl": "5m", "expires": "2029-01-01", "environments": "[prod]"}
    assert told(wide, grant("g", **same), sections=environments) == [("g", "wide")]
    assert told(wide, grant("g", **{**same, **more}), sections=environments) == []


def test_a_grant_that_begins_sooner_is_not() -> None:
    late = grant("late", workload=WIDE, not_before="2027-01-01")
    assert told(late, grant("g")) == []
    assert told(late, grant("g", not_before="2028-01-01")) == [("g", "late")]
    assert told(late, grant("g", not_before="2026-01-01")) == []


def test_conditions_count_as_written() -> None:
    high, low = "facts.risk.score < 5", "facts.risk.score < 3"
    assert told(grant("wide", workload=WIDE, when=high), grant("g", when=high), sections=FACTS) == [("g", "wide")]
    assert told(grant("wide", workload=WIDE), grant("g", when=high), sections=FACTS) == [("g", "wide")]
    assert told(grant("wide", workload=WIDE, when=high), grant("g"), sections=FACTS) == []
    assert told(grant("wide", workload=WIDE, when=high), grant("g", when=low), sections=FACTS) == []


def test_environments_of_the_audience_and_of_a_grant_are_not_compared() -> None:
    environments = "environments:\n  - {name: prod, workloads: ['spiffe://prod.example/**']}\n"
    assert told(grant("wide", workload=WIDE), grant("g", environments="[prod]"), sections=environments) == []


def test_one_grant_has_to_cover_all_workloads() -> None:
    pair = f"[{SETTLER!r}, 'spiffe://prod.example/ns/x']"
    both = grant("both").replace(f"[{SETTLER!r}]", pair)
    assert told(both, grant("first"), grant("second", workload="spiffe://prod.example/ns/x")) == [
        ("first", "both"),
        ("second", "both"),
    ]


SEGMENTS = st.sampled_from(["a", "b", "*"])
PATTERNS = st.builds(
    lambda segments, rest: "/".join(["spiffe://prod.example", *segments, *(["**"] if rest else [])]),
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.booleans(),
)
IDS = [f"spiffe://prod.example/{'/'.join(path)}" for path in ("a", "b", "aa", "ab", "ba", "aab", "bba", "abab")]


@given(st.lists(PATTERNS, min_size=2, max_size=6))
def test_without_what_is_told_every_answer_is_the_same(patterns: list[str]) -> None:
    items = [grant(f"g{number}", workload=pattern) for number, pattern in enumerate(patterns)]
    whole = policy(grants(*items))
    superfluous = {rule.id for rule, _ in shadowed_grants(whole)}
    rest = policy(grants(*(item for number, item in enumerate(items) if f"g{number}" not in superfluous)))
    for spiffe_id in IDS:
        answers = [isinstance(decide(each, caller(spiffe_id), request(), {}, NOW), Grant) for each in (whole, rest)]
        assert answers[0] == answers[1], spiffe_id


@given(PATTERNS, st.lists(PATTERNS, min_size=1, max_size=5))
def test_covering_is_certain(pattern: str, others: list[str]) -> None:
    index = policy(grants(*(grant(f"g{n}", workload=each) for n, each in enumerate(others)))).grant_index
    covering = index.covering(parse_pattern(pattern), "https://ledger.example")
    for rule in covering:
        for spiffe_id in map(SpiffeId.parse, IDS):
            if parse_pattern(pattern).matches(spiffe_id):
                assert rule.workloads[0].matches(spiffe_id)
    assert {rule.workloads[0].text for rule in covering} >= {each for each in others if each == pattern}


def test_a_grant_that_opens_longer_windows_is_not() -> None:
    hours = {hours: grant(f"g{hours}", grant_types="[jit]", window=f"{hours}h") for hours in (1, 2)}
    usual = grant("usual", grant_types="[jit]")
    assert told(hours[1], hours[2]) == [("g1", "g2")]
    assert told(hours[2], usual) == [("usual", "g2")]
    assert told(usual, hours[1]) == [("g1", "usual")]
