from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from issuer.core.index import RuleIndex
from issuer.core.patterns import WorkloadPattern, parse_pattern
from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, eq=False)
class Rule:
    workloads: tuple[WorkloadPattern, ...]
    indexed_audiences: tuple[str, ...]


def rule(patterns: list[str], audiences: list[str]) -> Rule:
    return Rule(tuple(map(parse_pattern, patterns)), tuple(audiences))


CALLER = SpiffeId.parse("spiffe://td/a/b")


def test_finds_exact_and_wildcard_rules_of_the_audience() -> None:
    exact, star, rest = (
        rule(["spiffe://td/a/b"], ["x"]),
        rule(["spiffe://td/*/b"], ["x"]),
        rule(["spiffe://td/**"], ["x"]),
    )
    index = RuleIndex([exact, star, rest])
    assert set(index.matching(CALLER, "x")) == {exact, star, rest}


def test_finds_nothing_of_other_audiences_callers_and_trust_domains() -> None:
    index = RuleIndex([rule(["spiffe://td/a/*"], ["x"]), rule(["spiffe://td/a/b"], ["y"])])
    assert index.matching(CALLER, "z") == ()
    assert index.matching(SpiffeId.parse("spiffe://other/a/b"), "x") == ()
    assert index.matching(SpiffeId.parse("spiffe://td/b/b"), "x") == ()


def test_a_rule_that_matches_by_several_patterns_is_found_once() -> None:
    both = rule(["spiffe://td/a/b", "spiffe://td/a/*", "spiffe://td/**"], ["x", "y"])
    assert RuleIndex([both]).matching(CALLER, "x") == (both,)


def test_an_empty_index_finds_nothing() -> None:
    empty: RuleIndex[Rule] = RuleIndex([])
    assert empty.matching(CALLER, "x") == ()
    assert empty.audiences_of(CALLER) == frozenset()


def test_knows_the_audiences_of_a_caller() -> None:
    index = RuleIndex(
        [rule(["spiffe://td/a/b"], ["x"]), rule(["spiffe://td/**"], ["y"]), rule(["spiffe://td/c"], ["z"])]
    )
    assert index.audiences_of(CALLER) == {"x", "y"}


SEGMENTS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4)
PATTERNS = st.builds(
    lambda domain, segments, rest: f"spiffe://{domain}/" + "/".join([*segments, *rest]),
    st.sampled_from(["td", "other"]),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4),
    st.sampled_from([[], ["**"]]),
)
AUDIENCES = st.sampled_from(["x", "y", "z"])
RULES = st.lists(
    st.builds(
        rule, st.lists(PATTERNS, min_size=1, max_size=3), st.lists(AUDIENCES, min_size=1, max_size=2, unique=True)
    ),
    max_size=12,
)


@given(rules=RULES, domain=st.sampled_from(["td", "other"]), segments=SEGMENTS, audience=AUDIENCES)
def test_the_index_finds_what_a_linear_scan_finds(
    rules: list[Rule], domain: str, segments: list[str], audience: str
) -> None:
    spiffe_id = SpiffeId.parse(f"spiffe://{domain}/{'/'.join(segments)}")
    index = RuleIndex(rules)
    speaking = [each for each in rules if any(pattern.matches(spiffe_id) for pattern in each.workloads)]
    found = index.matching(spiffe_id, audience)
    assert len(found) == len(set(found))
    assert set(found) == {each for each in speaking if audience in each.indexed_audiences}
    assert index.audiences_of(spiffe_id) == {name for each in speaking for name in each.indexed_audiences}
