from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.patterns import PatternError, Shape, parse_pattern
from issuer.core.spiffe_id import SpiffeId


@pytest.mark.parametrize(
    ("pattern", "matching", "not_matching"),
    [
        ("spiffe://td/a/b", ["spiffe://td/a/b"], ["spiffe://td/a", "spiffe://td/a/b/c", "spiffe://td/a/B"]),
        ("spiffe://td/a/*", ["spiffe://td/a/b", "spiffe://td/a/c"], ["spiffe://td/a", "spiffe://td/a/b/c"]),
        ("spiffe://td/*/b", ["spiffe://td/x/b"], ["spiffe://td/x/c", "spiffe://td/b", "spiffe://td/x/y/b"]),
        ("spiffe://td/*/b/*", ["spiffe://td/x/b/y"], ["spiffe://td/x/y/b", "spiffe://td/x/b"]),
        ("spiffe://td/a/**", ["spiffe://td/a/b", "spiffe://td/a/b/c/d"], ["spiffe://td/a", "spiffe://td/ab/c"]),
        ("spiffe://td/**", ["spiffe://td/a", "spiffe://td/a/b"], ["spiffe://other/a", "spiffe://td.x/a"]),
        ("spiffe://td/*/**", ["spiffe://td/a/b", "spiffe://td/a/b/c"], ["spiffe://td/a"]),
    ],
)
def test_matches_whole_segments_only(pattern: str, matching: list[str], not_matching: list[str]) -> None:
    parsed = parse_pattern(pattern)
    assert all(parsed.matches(SpiffeId.parse(text)) for text in matching)
    assert not any(parsed.matches(SpiffeId.parse(text)) for text in not_matching)


@pytest.mark.parametrize(
    ("text", "says", "offset"),
    [
        ("", "begins with 'spiffe://'", 0),
        ("SPIFFE://td/a", "begins with 'spiffe://'", 0),
        ("https://td/a", "begins with 'spiffe://'", 0),
        ("spiffe://*/a", "trust domain is always literal", 9),
        ("spiffe://*.example/a", "trust domain is always literal", 9),
        ("spiffe://**", "trust domain is always literal", 9),
        ("spiffe://td", r"spiffe://td/\*\*", 0),
        ("spiffe://td/", "names a trust domain, not a workload", 0),
        ("spiffe://td/a/pay*", "one whole segment", 14),
        ("spiffe://td/*a/b", "one whole segment", 12),
        ("spiffe://td/a/***", "one whole segment", 14),
        ("spiffe://td/a/**b", "one whole segment", 14),
        ("spiffe://td/a/**/b", "can only be the last segment", 14),
        ("spiffe://td/**/**", "can only be the last segment", 12),
        ("spiffe://td/a//b", "a path is segments", 0),
        ("spiffe://td/a/", "a path is segments", 0),
        ("spiffe://td/a/../b", "a path is segments", 0),
        ("spiffe://TD/a", "a trust domain is", 0),
        ("spiffe:///a", "a trust domain is", 0),
        ("spiffe://td:1/a", "a trust domain is", 0),
        ("spiffe://td/a%2f", "a path is segments", 0),
        ("spiffe://td/a?b", "a path is segments", 0),
        ("spiffe://td/(a|b)", "a path is segments", 0),
        ("spiffe://td/" + "a" * 2040, "at most 2048 bytes", 0),
    ],
)
def test_refuses_what_is_no_pattern_and_says_where(text: str, says: str, offset: int) -> None:
    with pytest.raises(PatternError, match=says) as caught:
        parse_pattern(text)
    assert caught.value.offset == offset


def test_a_pattern_keeps_its_text_and_knows_its_trust_domain() -> None:
    parsed = parse_pattern("spiffe://prod.example/a/*/**")
    assert parsed.text == "spiffe://prod.example/a/*/**"
    assert parsed.trust_domain == "prod.example"
    assert parsed.shape == Shape(length=2, stars=(1,), open_ended=True)


@pytest.mark.parametrize(
    ("text", "exact"),
    [("spiffe://td/a", True), ("spiffe://td/*", False), ("spiffe://td/**", False), ("spiffe://td/a/*/**", False)],
)
def test_only_a_pattern_without_wildcards_is_exact(text: str, *, exact: bool) -> None:
    assert parse_pattern(text).shape.is_exact is exact


SEGMENT = st.sampled_from(["a", "b", "c", "A", "a.b", "-"])
PATTERN_SEGMENT = st.one_of(SEGMENT, st.just("*"))


def reference_match(pattern: list[str], segments: list[str]) -> bool:
    """A second reading of the rules, segment by segment."""
    if not pattern:
        return not segments
    if pattern[0] == "**":
        return len(segments) >= 1
    if not segments:
        return False
    return pattern[0] in ("*", segments[0]) and reference_match(pattern[1:], segments[1:])


@given(
    pattern=st.lists(PATTERN_SEGMENT, max_size=5),
    rest=st.booleans(),
    segments=st.lists(SEGMENT, min_size=1, max_size=6),
)
def test_matching_equals_a_segment_by_segment_reading(*, pattern: list[str], rest: bool, segments: list[str]) -> None:
    parts = [*pattern, "**"] if rest or not pattern else pattern
    parsed = parse_pattern("spiffe://td/" + "/".join(parts))
    expected = reference_match(parts, segments)
    assert parsed.matches(SpiffeId.parse("spiffe://td/" + "/".join(segments))) is expected
    assert not parsed.matches(SpiffeId.parse("spiffe://other/" + "/".join(segments)))


@given(st.text(alphabet="spife:/td*a.-_%?A ", max_size=40))
def test_any_text_is_a_pattern_or_a_pattern_error(text: str) -> None:
    try:
        assert parse_pattern(text).text == text
    except PatternError as error:
        offset = error.offset
        assert 0 <= offset <= len(text)
