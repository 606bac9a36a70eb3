"""Ledger entries as documents of the Elastic Common Schema."""

from __future__ import annotations

import pytest
from support.ledgers import record, revoking

from issuer.core.ecs import ecs_document
from issuer.core.ledger_entries import APPROVAL, APPROVAL_GIVEN, Checkpoint, Event, RevocationLifted, StepTaken
from issuer.core.record import Outcome
from issuer.core.revocation import Selector


def document(**changes: object) -> dict[str, object]:
    found = ecs_document(record(**changes))
    assert found is not None
    return found


def test_a_grant_tells_who_got_what_from_where() -> None:
    granted = document(time=1_700_000_000_123_456, peer="ipv4:10.0.0.7:4711", intent='{"ticket":"CHG-1"}', flags=8)
    assert granted["@timestamp"] == "2023-11-14T22:13:20.123Z"
    assert granted["user"] == {"id": "spiffe://prod.example/ns/payments/sa/settler"}
    assert granted["source"] == {"address": "10.0.0.7", "ip": "10.0.0.7", "port": 4711}
    event, said = granted["event"], granted["spiffe_issuer"]
    assert isinstance(event, dict)
    assert isinstance(said, dict)
    assert (event["type"], event["outcome"], event["action"]) == (["access", "allowed"], "success", "token-granted")
    assert (said["scopes"], said["flags"]) == (["ledger.read"], ["bound"])
    assert "CHG-1" not in str(granted), "an intent stays where it can be erased"


@pytest.mark.parametrize(("outcome", "types"), [(Outcome.DENIED, ["access", "denied"]), (Outcome.ERROR, ["access"])])
def test_a_refusal_tells_why(outcome: Outcome, types: list[str]) -> None:
    refused = document(outcome=outcome, reason="SCOPE_NOT_ALLOWED", token_id="", expires_at=None, token_sha256=b"")
    event, said = refused["event"], refused["spiffe_issuer"]
    assert isinstance(event, dict)
    assert isinstance(said, dict)
    assert (event["type"], event["outcome"], event["reason"]) == (types, "failure", "SCOPE_NOT_ALLOWED")
    assert not {"token_id", "token_sha256", "expires_at"} & said.keys()


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv6:%5B::1%5D:4711", {"address": "::1", "ip": "::1", "port": 4711}),
        ("ipv4:10.0.0.7", {"address": "10.0.0.7", "ip": "10.0.0.7"}),
        ("unix:/run/x", {"address": "unix:/run/x"}),
        ("", None),
    ],
)
def test_an_address_is_told_as_far_as_it_is_one(peer: str, source: object) -> None:
    assert document(peer=peer).get("source") == source


def test_an_event_is_a_change_of_the_issuer_itself() -> None:
    told = ecs_document(Event("policy_in_force", 0, "spiffe://prod.example/operator", "{}"))
    assert told is not None
    assert told["event"] == {
        "kind": "event",
        "category": ["configuration"],
        "type": ["info"],
        "action": "policy_in_force",
    }
    assert ecs_document(Checkpoint("x")) is None


def test_a_revocation_and_its_lift_are_told() -> None:
    made = revoking(Selector(audience="https://a"))
    for entry in (made, RevocationLifted(made.id, made.time, "spiffe://prod.example/operator")):
        told = ecs_document(entry)
        assert told is not None
        assert made.id in str(told)
        assert "spiffe://prod.example/operator" in str(told)


def test_a_step_of_an_approval_is_told() -> None:
    step = StepTaken(
        APPROVAL_GIVEN, APPROVAL, "request-1", 2, 0, "spiffe://prod.example/user/ada", '{"note":"seen"}', 1
    )
    told = ecs_document(step)
    assert told is not None
    assert told["event"] == {"kind": "event", "category": ["configuration"], "type": ["info"], "action": APPROVAL_GIVEN}
    assert all(text in str(told) for text in ("request-1", "spiffe://prod.example/user/ada", "seen"))
