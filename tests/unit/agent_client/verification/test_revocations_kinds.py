"""Kinds of dead tokens: what they hit, and that the index finds what a plain look at each would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dead_tokens import AUDIENCE, KEY, NOW, SUBJECT, token

from agent_client.verification.revocations_kinds import DeadKinds
from agent_client.verification.revocations_news import DeadKind
from issuer.core.patterns import parse_pattern
from issuer.core.spiffe_id import SpiffeId

PATTERNS = [
    SUBJECT,
    "spiffe://prod.example/ns/*/sa/settler",
    "spiffe://prod.example/*/*/*/*",
    "spiffe://prod.example/ns/payments/**",
    "spiffe://prod.example/**",
    "spiffe://prod.example/*/payments/**",
]
OTHERS = [
    "spiffe://prod.example/ns/payments/sa/settler2",
    "spiffe://prod.example/ns/payments/sa",
    "spiffe://prod.example/ns/*/sa",
    "spiffe://prod.example/ns/payments/sa/settler/**",
    "spiffe://prod.example/ns/*/sa/reader",
    "spiffe://other.example/**",
]


def kinds(*each: DeadKind) -> DeadKinds:
    found = DeadKinds()
    for kind in each:
        found.put(kind)
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_workload_is_hit_by_its_id_and_by_patterns_that_fit(pattern: str) -> None:
    assert kinds(DeadKind("r", workload=pattern)).hits(token(), KEY)


@pytest.mark.parametrize("pattern", OTHERS)
def test_a_workload_is_not_hit_by_others(pattern: str) -> None:
    assert not kinds(DeadKind("r", workload=pattern)).hits(token(), KEY)


SEGMENTS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4)
PATTERN_SEGMENTS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)


@given(st.lists(PATTERN_SEGMENTS, max_size=5), st.sampled_from([[], ["**"]]), SEGMENTS)
def test_patterns_mean_what_they_mean_to_the_issuer(
    patterns: list[list[str]], rest: list[str], segments: list[str]
) -> None:
    texts = ["spiffe://td/" + "/".join(parts + rest) for parts in patterns]
    subject = "spiffe://td/" + "/".join(segments)
    found = kinds(*(DeadKind(str(number), workload=text) for number, text in enumerate(texts)))
    expected = any(parse_pattern(text).matches(SpiffeId.parse(subject)) for text in texts)
    assert found.hits(token(client_id=subject), KEY) is expected


FITTING: list[dict[str, Any]] = [
    {},
    {"application": "payments"},
    {"audience": AUDIENCE},
    {"key_id": KEY},
    {"issued_from": NOW},
    {"issued_until": NOW},
    {"workload": SUBJECT, "audience": AUDIENCE, "application": "payments", "key_id": KEY},
]
OTHERWISE: list[dict[str, Any]] = [
    {"application": "reports"},
    {"audience": "https://other.test"},
    {"key_id": "key-2"},
    {"issued_from": NOW + 1},
    {"issued_until": NOW - 1},
    {"workload": SUBJECT, "audience": "https://other.test"},
    {"workload": SUBJECT, "application": "reports"},
    {"application": "payments", "key_id": "key-2"},
]


@pytest.mark.parametrize("fields", FITTING, ids=str)
def test_a_token_is_hit_when_all_that_is_set_is_so(fields: dict[str, Any]) -> None:
    assert kinds(DeadKind("r", **fields)).hits(token(), KEY)


@pytest.mark.parametrize("fields", OTHERWISE, ids=str)
def test_a_token_is_not_hit_when_one_of_them_is_not_so(fields: dict[str, Any]) -> None:
    assert not kinds(DeadKind("r", **fields)).hits(token(), KEY)


def test_a_token_without_an_application_is_of_no_application() -> None:
    found = kinds(DeadKind("r", application="payments"))
    assert not found.hits(token(application=None), KEY)


def test_a_later_word_on_a_revocation_takes_the_place_of_the_first_for_each_audience() -> None:
    found = kinds(
        DeadKind("r", workload=SUBJECT, audience=AUDIENCE),
        DeadKind("r", workload=SUBJECT, audience="https://other.test"),
        DeadKind("r", workload=SUBJECT, audience=AUDIENCE, issued_until=NOW),
    )
    assert len(found) == 2
    assert found.hits(token(issued_at=NOW), KEY)
    assert not found.hits(token(issued_at=NOW + 1), KEY)


def test_who_asked_for_a_token_is_meant_and_not_for_whom() -> None:
    """What was made from the subject's own token is told by its id."""
    delegated = token(client_id="spiffe://prod.example/agent")
    assert not kinds(DeadKind("r", workload=SUBJECT)).hits(delegated, KEY)
    assert kinds(DeadKind("r", workload="spiffe://prod.example/agent")).hits(delegated, KEY)


def test_a_workload_that_was_looked_at_is_hit_by_what_is_revoked_later() -> None:
    found = kinds(DeadKind("first", workload="spiffe://prod.example/x"))
    assert not found.hits(token(), KEY)
    found.put(DeadKind("second", workload="spiffe://prod.example/ns/*/sa/*"))
    assert found.hits(token(), KEY)


def test_kinds_are_forgotten_when_their_time_has_come_and_no_sooner() -> None:
    found = kinds(
        DeadKind("a", forget_at=NOW), DeadKind("b", workload=SUBJECT, forget_at=NOW + 1), DeadKind("c", key_id=KEY)
    )
    found.forget(NOW - 1)
    assert len(found) == 3
    found.forget(NOW)
    assert len(found) == 2
    found.forget(NOW + 10**9)
    assert len(found) == 1
    assert found.are_any
    assert found.hits(token(), KEY)
    assert not found.hits(token(), "key-2")


def test_more_workloads_than_are_remembered_are_looked_at_all_the_same() -> None:
    found = kinds(DeadKind("r", workload="spiffe://prod.example/*"))
    assert all(found.hits(token(client_id=f"spiffe://prod.example/{number}"), KEY) for number in range(1100))
    assert len(found._known_workloads) == 1024
