"""Whom a pattern of subjects speaks of. No subject of a provider can pass for a workload, or for another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import NOW, grant, grants, policy

from issuer.core.patterns import PatternError
from issuer.core.policy_diff import diff_policies
from issuer.core.policy_faults import PolicyInvalid
from issuer.core.shadowing import shadowed_grants
from issuer.core.subjects import foreign_subject, names_any, parse_subject

LOGIN = "https://login.example"


@pytest.mark.parametrize(
    ("pattern", "matching", "not_matching"),
    [
        ("spiffe://td/a/*", ["spiffe://td/a/b"], ["spiffe://td/a", "spiffe://other/a/b", f"{LOGIN}#spiffe", "alice"]),
        (f"{LOGIN}#alice", [f"{LOGIN}#alice"], [f"{LOGIN}#alic", f"{LOGIN}/#alice", "alice", "spiffe://td/alice"]),
        (f"{LOGIN}#*", [f"{LOGIN}#alice", f"{LOGIN}#*"], [f"{LOGIN}.evil.example#alice", f"{LOGIN}/t#alice", LOGIN]),
        (f"{LOGIN}/t#a%7Cb", [f"{LOGIN}/t#a%7Cb"], [f"{LOGIN}/t#a|b"]),
    ],
)
def test_matches_whom_it_names(pattern: str, matching: list[str], not_matching: list[str]) -> None:
    parsed = parse_subject(pattern)
    assert all(map(parsed.matches, matching))
    assert not any(map(parsed.matches, not_matching))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "alice",
        "#alice",
        LOGIN,
        f"{LOGIN}#",
        f"{LOGIN}?q#a",
        "ftp://x#a",
        "https://#a",
        "https://[#a",
        "spiffe://*/a",
    ],
)
def test_refuses_what_names_nobody(text: str) -> None:
    with pytest.raises(PatternError):
        parse_subject(text)


@pytest.mark.parametrize("name", ["a|b", "a b", "**", "a*", "%7c", "%zz", "ä"])
def test_refuses_what_no_subject_is_written_like(name: str) -> None:
    with pytest.raises(PatternError, match="percent-encoded") as refusal:
        parse_subject(f"{LOGIN}#{name}")
    assert refusal.value.offset == len(LOGIN) + 1


def test_of_no_patterns_none_speaks_of_anybody() -> None:
    assert not names_any((), "spiffe://td/a")
    assert names_any((parse_subject("spiffe://td/b"), parse_subject("spiffe://td/a")), "spiffe://td/a")


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_subjects_are_never_written_alike(one: str, other: str) -> None:
    try:
        written, rewritten = foreign_subject(LOGIN, one), foreign_subject(LOGIN, other)
    except UnicodeEncodeError:  # a lone surrogate, which no strict JSON brings
        return
    assert (written == rewritten) is (one == other)
    assert parse_subject(f"{LOGIN}#*").matches(written)
    assert not parse_subject("spiffe://td/**").matches(written)


class TestInPolicy:
    def test_a_grant_of_tokens_of_others_names_their_subjects(self) -> None:
        rule = policy(grants(grant(grant_types="[token_exchange]", subjects=f"['{LOGIN}#*', 'spiffe://td/a']"))).grants[
            0
        ]
        assert [pattern.text for pattern in rule.subjects] == [f"{LOGIN}#*", "spiffe://td/a"]
        assert policy(grants(grant())).grants[0].subjects == ()

    @pytest.mark.parametrize(
        ("more", "fault"),
        [
            ({}, "is for grants whose 'grant_types' is [token_exchange]"),
            ({"grant_types": "[token_exchange, jit]"}, "is for grants whose 'grant_types' is [token_exchange]"),
            ({"grant_types": "[token_exchange]", "subjects": "[]"}, "is empty; empty never means all"),
            ({"grant_types": "[token_exchange]", "subjects": "['alice']"}, "a subject is a workload, or"),
        ],
    )
    def test_a_grant_that_does_not_mean_that_is_refused(self, more: dict[str, str], fault: str) -> None:
        with pytest.raises(PolicyInvalid) as refused:
            policy(grants(grant(**{"subjects": f"['{LOGIN}#*']", **more})))
        assert fault in str(refused.value.faults[0])

    def test_the_digest_tells_whose_tokens(self) -> None:
        own, alice, bob = (
            policy(grants(grant(grant_types="[token_exchange]", **more))).digest
            for more in ({}, {"subjects": f"['{LOGIN}#alice']"}, {"subjects": f"['{LOGIN}#bob']"})
        )
        assert len({own, alice, bob}) == 3

    def test_a_changed_subject_is_told_by_the_comparison_of_policies(self) -> None:
        before, after = (
            policy(grants(grant(grant_types="[token_exchange]", subjects=f"['{LOGIN}#{who}']")))
            for who in ("alice", "*")
        )
        [changed] = diff_policies(before, after, NOW).accesses
        assert ("subjects", f"{LOGIN}#alice", f"{LOGIN}#*") in changed.changes

    def test_a_grant_for_other_subjects_shadows_none(self) -> None:
        wide = grant("wide", "[read, write]", grant_types="[token_exchange]")
        narrow = grant("narrow", grant_types="[token_exchange]", subjects=f"['{LOGIN}#*']")
        assert list(shadowed_grants(policy(grants(wide, narrow)))) == []
