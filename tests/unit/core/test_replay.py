"""Recorded requests that are decided again, under their own policy and under another."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.facts import RISK, risk
from support.policies import NOW, caller, grant, grants, policy, prohibition, prohibitions, request

from issuer.core.decide import decide
from issuer.core.errors import Reason
from issuer.core.record import DecisionRecord, record_decision, record_failure
from issuer.core.replay import Change, NotReplayable, Told, change, differing_fields, recorded, told_before, told_by
from issuer.core.token_request import Intent, TokenRequest

if TYPE_CHECKING:
    from issuer.core.policy import Policy

ID = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"
POLICY = policy(grants(grant()))


def recorded_of(asked: TokenRequest, by: Policy = POLICY, **more: object) -> DecisionRecord:
    decision = decide(by, caller(), asked, {}, NOW)
    return record_decision(
        decision, decision_id=ID, caller=caller(), peer="", request=asked, facts={}, now=NOW, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_record_gives_back_what_it_was_decided_from() -> None:
    asked = TokenRequest(
        request().audience,
        ("read", "write"),
        timedelta(seconds=90),
        "payments",
        bind_certificate=True,
        allow_partial=True,
        intent=Intent(operation="settle", ticket="CHG-1"),
    )
    told = risk(20)
    decision = decide(POLICY, caller(), asked, {told.key: told}, NOW)
    record = record_decision(
        decision, decision_id=ID, caller=caller(), peer="", request=asked, facts={told.key: told}, now=NOW
    )
    inputs = recorded(record)
    assert (inputs.caller, inputs.request, inputs.facts, inputs.now) == (caller(), asked, {told.key: told}, NOW)
    assert RISK.name == told.type


def test_under_its_own_policy_every_field_is_as_recorded() -> None:
    for record in (recorded_of(request()), recorded_of(request("write")), recorded_of(request(), validate_only=True)):
        assert differing_fields(record, recorded(record), POLICY) == ()


def test_a_grant_that_was_not_issued_replays_as_the_grant_it_was() -> None:
    record = recorded_of(request(), failed=Reason.SIGNER_UNAVAILABLE)
    assert differing_fields(record, recorded(record), POLICY) == ()
    assert told_before(record) == told_by(POLICY, recorded(record))


def test_what_does_not_come_out_again_is_named() -> None:
    record = recorded_of(request())._replace(lifetime=1, rules="others")
    assert differing_fields(record, recorded(record), POLICY) == ("rules", "lifetime")


def test_what_was_not_decided_is_not_replayed() -> None:
    failed = record_failure(
        Reason.INTERNAL,
        decision_id=ID,
        caller=caller(),
        peer="",
        request=request(),
        now=NOW,
    )
    with pytest.raises(NotReplayable, match="nothing was decided"):
        recorded(failed)


@pytest.mark.parametrize(
    "changes", [{"scopes_asked": "a b b"}, {"grant_type": "x"}, {"intent": '{"x":1}'}, {"caller": "spiffe://X"}]
)
def test_what_this_program_cannot_read_is_not_replayed(changes: dict[str, str]) -> None:
    with pytest.raises(NotReplayable, match="cannot be read: "):
        recorded(recorded_of(request())._replace(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (policy(grants(grant())), Change.SAME),
        (policy(grants(grant(scopes="[write]"))), Change.NEWLY_DENIED),
        (policy(grants(grant(max_ttl="30s"))), Change.OTHER_LIFETIME),
        (policy(grants(grant(application="payments"))), Change.OTHER_TERMS),
    ],
)
def test_another_policy_changes_a_grant(other: Policy, expected: Change) -> None:
    record = recorded_of(request())
    assert change(told_before(record), told_by(other, recorded(record))) is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (policy(grants(grant(scopes="[read, write]"))), Change.NEWLY_GRANTED),
        (policy(grants(grant(scopes="[read, write]")), prohibitions(prohibition())), Change.OTHER_REASON),
    ],
)
def test_another_policy_changes_a_refusal(other: Policy, expected: Change) -> None:
    record = recorded_of(request("write"))
    assert change(told_before(record), told_by(other, recorded(record))) is expected


def test_other_scopes_are_graver_than_another_lifetime() -> None:
    before = Told("", "read write", 60, "", bound=False)
    assert change(before, before._replace(scopes="read", lifetime=30)) is Change.OTHER_SCOPES
