from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from issuer.core.pattern_overlap import OverlapIndex, meet
from issuer.core.patterns import WorkloadPattern, parse_pattern
from issuer.core.spiffe_id import SpiffeId

SEGMENTS = ("a", "b")
IDS = [
    SpiffeId.parse(f"spiffe://d.example/{'/'.join(path)}")
    for length in range(1, 6)
    for path in product((*SEGMENTS, "c"), repeat=length)
]


def pattern(path: str) -> WorkloadPattern:
    return parse_pattern(f"spiffe://d.example/{path}")


@dataclass(frozen=True)
class Rule:
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...] = ("x",)


def patterns() -> st.SearchStrategy[WorkloadPattern]:
    paths = st.tuples(st.lists(st.sampled_from((*SEGMENTS, "*")), max_size=3), st.booleans())
    return paths.filter(any).map(lambda path: pattern("/".join([*path[0], *["**"] * path[1]])))


@given(patterns(), st.lists(patterns(), max_size=6))
def test_finds_what_a_look_at_every_identity_finds(asked: WorkloadPattern, others: list[WorkloadPattern]) -> None:
    """Identities of up to five segments are enough to tell any two patterns of three apart."""
    rules = [Rule((other,)) for other in others]
    found = [(id(rule), text) for rule, text in OverlapIndex(rules).overlapping(asked, "x")]
    expected = {
        id(rule): shared
        for rule in rules
        if (shared := [each for each in IDS if asked.matches(each) and rule.workloads[0].matches(each)])
    }
    assert sorted(rule for rule, _ in found) == sorted(expected)
    for rule, text in found:
        assert [each for each in IDS if parse_pattern(text).matches(each)] == expected[rule]


def test_looks_at_the_audience_and_at_any_audience_of_the_same_trust_domain() -> None:
    every = (pattern("**"),)
    rules = [Rule(every), Rule(every, ("y",)), Rule(every, ("*",)), Rule((parse_pattern("spiffe://e.example/**"),))]
    assert [rule for rule, _ in OverlapIndex(rules).overlapping(pattern("a"), "x")] == [rules[0], rules[2]]


def test_what_two_patterns_share_is_one_pattern() -> None:
    assert meet(pattern("*/b/**"), pattern("a/**")) == "spiffe://d.example/a/b/**"
    assert meet(pattern("*/b"), pattern("a/*")) == "spiffe://d.example/a/b"


def test_a_very_long_pattern_is_no_problem() -> None:
    long = pattern("/".join("a" * 900))
    assert len(list(OverlapIndex([Rule((long,))]).overlapping(pattern("**"), "x"))) == 1
    assert len(list(OverlapIndex([Rule((long,))]).overlapping(long, "x"))) == 1
