"""What is registered: what of it can be malformed, its window, and that the same asked again is known for the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.intents import MINUTES, SCHEDULER, WORKER, registration

from issuer.core.errors import InvalidTokenRequest
from issuer.core.intent_registration import IntentWanted, is_digest, parameters_digest
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest

DAY = timedelta(days=1)
CONSUMER = SpiffeId.parse(WORKER)
REQUEST = TokenRequest(
    "https://ledger.example", ("read",), intent=Intent("settle", "batch/17"), grant_type=GrantType.INTENT
)
WANTED = IntentWanted(REQUEST, CONSUMER, parameters_digest(b"{}"), request_id="job-7")


def faults(**changes: Any) -> set[str]:
    with pytest.raises(InvalidTokenRequest) as refused:
        replace(WANTED, **changes)
    return {violation.field for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request": replace(REQUEST, intent=None)}, "operation"),
        ({"request": replace(REQUEST, intent=Intent(resource="x"))}, "operation"),
        ({"parameters": "sha256:abc"}, "parameters_digest"),
        ({"parameters": parameters_digest(b"").upper()}, "parameters_digest"),
        ({"uses": 0}, "uses"),
        ({"uses": 101}, "uses"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
    ],
)
def test_what_is_malformed_is_named(changes: dict[str, Any], field: str) -> None:
    assert faults(**changes) == {field}


def test_every_fault_is_told_at_once() -> None:
    assert faults(uses=0, parameters="x") == {"uses", "parameters_digest"}


def test_parameters_may_be_absent_and_a_request_unnamed() -> None:
    assert replace(WANTED, parameters="", request_id="").parameters == ""


def test_a_digest_is_spelled_one_way() -> None:
    assert parameters_digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert is_digest(parameters_digest(b"x"))
    assert not is_digest(parameters_digest(b"x") + "\n")


class TestWindow:
    def test_it_begins_now_and_is_an_hour_unless_asked_otherwise(self) -> None:
        assert WANTED.window(5, DAY) == (5, 5 + 60 * MINUTES)
        assert WANTED.window(5, timedelta(minutes=10)) == (5, 5 + 10 * MINUTES)
        asked = replace(WANTED, not_before=MINUTES, expires_at=2 * MINUTES)
        assert asked.window(5, DAY) == (MINUTES, 2 * MINUTES)
        assert asked.window(MINUTES + 1, DAY) == (MINUTES + 1, 2 * MINUTES), "not in the past"

    @pytest.mark.parametrize("times", [(None, 5), (None, 4), (7, 7), (8, 7), (None, 5 + 24 * 60 * MINUTES + 1)])
    def test_what_is_none_or_too_long_is_refused(self, times: tuple[int | None, int]) -> None:
        asked = replace(WANTED, not_before=times[0], expires_at=times[1])
        with pytest.raises(InvalidTokenRequest) as refused:
            asked.window(5, DAY)
        assert [violation.field for violation in refused.value.violations] == ["expire_time"]

    def test_the_longest_is_as_long_as_may_be(self) -> None:
        assert replace(WANTED, expires_at=24 * 60 * MINUTES).window(0, DAY) == (0, 24 * 60 * MINUTES)


OTHERWISE: tuple[dict[str, Any], ...] = (
    {"request": replace(REQUEST, audience="https://x")},
    {"request": replace(REQUEST, scopes=("write",))},
    {"request": replace(REQUEST, ttl=timedelta(seconds=60))},
    {"request": replace(REQUEST, application="x")},
    {"request": replace(REQUEST, bind_certificate=True)},
    {"request": replace(REQUEST, intent=Intent("settle", "batch/18"))},
    {"consumer": SpiffeId.parse(SCHEDULER)},
    {"parameters": ""},
    {"not_before": 1},
    {"expires_at": 1},
    {"uses": 2},
)


def test_whatever_is_asked_otherwise_has_another_digest() -> None:
    digests = {replace(WANTED, **other).digest for other in OTHERWISE} | {WANTED.digest}
    assert len(digests) == len(OTHERWISE) + 1
    assert replace(WANTED, request_id="other").digest == WANTED.digest, "its name is none of what is asked"


def test_a_resource_server_is_told_what_may_be_done_and_nothing_that_was_not_said() -> None:
    registered = registration(resource="", parameters="")
    assert json.loads(registered.details) == [
        {"type": "spiffe-issuer-intent", "intent": registered.id, "operation": "settle-batch"}
    ]
    assert json.loads(registration(id="x").details) == [
        {
            "type": "spiffe-issuer-intent",
            "intent": "x",
            "operation": "settle-batch",
            "resource": "batch/17",
            "parameters_digest": parameters_digest(b"{}"),
        }
    ]


def test_conditions_see_what_was_registered() -> None:
    assert registration().intent == Intent("settle-batch", "batch/17", transaction="tx-1")
    assert registration(resource="", transaction="").intent == Intent("settle-batch")


def test_a_revocation_knows_the_right_by_registrar_rule_and_intent() -> None:
    registered = registration()
    right = registered.right
    assert (str(right.caller), right.rules, right.time) == (SCHEDULER, ("batches",), registered.created)
    assert right.basis == (f"intent/{registered.id}",)
