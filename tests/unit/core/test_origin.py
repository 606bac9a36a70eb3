"""Rule 15: what a token rests on only takes away, is checked in the finished claims, and dies with what is above it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.minting import AUDIENCE, NOW_SECONDS, SCOPES, Decision, plain_decision
from support.policies import LEDGER, NOW, SETTLER, caller, grant, grants, policy, request

from issuer.core.approval_need import find_needed
from issuer.core.approvals import Approved
from issuer.core.claims_check import ClaimsMismatch
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant, LifetimeBound
from issuer.core.errors import InvalidTokenRequest, Reason
from issuer.core.instants import microseconds
from issuer.core.ledger_claims import claims_of
from issuer.core.origin import Actor, Origin, OriginKind, basis_from_texts, basis_of, origin_from_text, origin_text
from issuer.core.patterns import parse_pattern
from issuer.core.record import Minted, record_decision
from issuer.core.replay import differing_fields, recorded
from issuer.core.revocation import Issued, Revocation, Selector, check_revocation, usually_stops
from issuer.core.revocations import NOTHING_REVOKED, Revocations
from issuer.core.spiffe_id import SpiffeId

ALICE = "spiffe://prod.example/ns/orders/sa/alice"
ABOVE = Issued(
    SpiffeId.parse(ALICE), "https://orders.example", "orders", ("g9",), "sha256:9", "k9", 5, "jti-9", ("intent/7",)
)
POLICY = policy(grants(grant("g", scopes="[read, write]")))
ID = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"


def origin(**changes: Any) -> Origin:
    usual = Origin(
        kind=OriginKind.INTENT,
        id="i-1",
        number=2,
        subject=ALICE,
        actors=(Actor(SETTLER, "spiffe://prod.example"), Actor("spiffe://other.example/x", "spiffe://other.example")),
        ancestors=(ABOVE,),
        scopes=("read",),
        until=microseconds(NOW + timedelta(seconds=60)),
        details='[{"type":"t"}]',
        transaction="tx-1",
        over_at=99,
    )
    return replace(usual, **changes)


def decided(*scopes: str, rests_on: Origin, revocations: Revocations = NOTHING_REVOKED, **asked: Any) -> Grant | Denial:
    wanted = replace(request(*scopes), **asked)
    return decide(POLICY, caller(), wanted, {}, NOW, origin=rests_on, revocations=revocations)


def test_no_scope_but_those_of_the_origin() -> None:
    assert isinstance(decided("read", rests_on=origin()), Grant)
    refused = decided("read", "write", rests_on=origin())
    assert isinstance(refused, Denial)
    assert (refused.reason, refused.scopes, refused.origin) == (Reason.SCOPE_NOT_ALLOWED, ("write",), origin())
    partial = decided("read", "write", rests_on=origin(), allow_partial=True)
    assert isinstance(partial, Grant)
    assert (partial.scopes, partial.refused_scopes) == (("read",), ("write",))


def test_an_origin_gives_nothing_that_policy_does_not() -> None:
    assert isinstance(decided("admin", rests_on=origin(scopes=("admin",))), Denial)


def test_no_token_outlives_its_origin() -> None:
    granted = decided("read", rests_on=origin())
    assert isinstance(granted, Grant)
    assert (granted.lifetime, granted.lifetime_bound) == (timedelta(seconds=60), LifetimeBound.ORIGIN)
    refused = decided("read", rests_on=origin(until=microseconds(NOW + timedelta(seconds=9))))
    assert isinstance(refused, Denial)
    assert refused.reason is Reason.ORIGIN_EXPIRES_SOON


def test_a_bound_origin_binds() -> None:
    free, bound = decided("read", rests_on=origin()), decided("read", rests_on=origin(bind=True))
    assert isinstance(free, Grant)
    assert isinstance(bound, Grant)
    assert (free.bind_certificate, bound.bind_certificate) == (False, True)


@pytest.mark.parametrize(("of_caller", "of_origin"), [("batch", "other"), ("batch", ""), (None, "batch")])
def test_another_application_than_that_of_the_origin_is_refused(of_caller: str | None, of_origin: str) -> None:
    named = {} if of_caller is None else {"application": of_caller}
    by = policy(grants(grant("g", **named)))
    refused = decide(by, caller(), request(), {}, NOW, origin=origin(application=of_origin))
    assert isinstance(refused, Denial)
    assert refused.reason is Reason.APPLICATION_NOT_ALLOWED
    for same in (of_caller or "", None):
        assert isinstance(decide(by, caller(), request(), {}, NOW, origin=origin(application=same)), Grant)


def test_an_approval_is_looked_for_within_the_origin() -> None:
    lacking = find_needed(POLICY, caller(), request("write"), {}, NOW, origin=origin())
    assert (lacking.needed, lacking.reason) == (None, Reason.SCOPE_NOT_ALLOWED)


STOPS = {
    "its intent": Selector(basis="intent/i-1"),
    "the intent of a token above": Selector(basis="intent/7"),
    "its subject": Selector(basis=f"subject/{ALICE}"),
    "an actor": Selector(basis="actor/spiffe://other.example/x"),
    "the workload above": Selector(workload=parse_pattern("spiffe://prod.example/ns/orders/**")),
    "the audience above": Selector(audience="https://orders.example"),
    "the application above": Selector(application="orders"),
    "the rule above": Selector(rule="g9"),
    "the policy above": Selector(policy="sha256:9"),
    "the key above": Selector(key="k9"),
}
LEAVES = {
    "another intent": Selector(basis="intent/i-2"),
    "an approval of that name": Selector(basis="approval/i-1"),
    "another subject": Selector(basis=f"subject/{SETTLER}"),
    "a workload and an audience of different tokens": Selector(
        workload=parse_pattern(SETTLER), audience="https://orders.example"
    ),
}


def stop(selector: Selector) -> Revocations:
    before = microseconds(NOW) - 1
    return Revocations([Revocation("r1", selector, before, "spiffe://prod.example/o", "a leak", stops_issuance=True)])


@pytest.mark.parametrize("selector", STOPS.values(), ids=STOPS.keys())
def test_what_is_revoked_above_is_refused(selector: Selector) -> None:
    refused = decided("read", rests_on=origin(), revocations=stop(selector))
    assert isinstance(refused, Denial)
    assert refused.reason is Reason.REVOKED


@pytest.mark.parametrize("selector", LEAVES.values(), ids=LEAVES.keys())
def test_what_is_not_meant_is_granted(selector: Selector) -> None:
    assert isinstance(decided("read", rests_on=origin(), revocations=stop(selector)), Grant)


def test_a_token_dies_with_one_above_it() -> None:
    below = ABOVE._replace(token_id="jti-1", caller=SpiffeId.parse(SETTLER), audience=LEDGER, ancestors=(ABOVE,))
    assert Selector(token="jti-9").hits(below)
    assert not Selector(token="jti-8").hits(below)
    killing = Revocation("r", Selector(audience="https://orders.example"), 10, "o", "w", False, decisions=3)  # noqa: FBT003
    assert Revocations([killing]).killing(below, seq=3) is killing
    assert Revocations([killing]).killing(below, seq=4) is None


def test_a_basis_has_to_be_of_a_known_kind() -> None:
    revocation = Revocation("", Selector(basis="intents/7"), 1, "o", "why", stops_issuance=True)
    with pytest.raises(InvalidTokenRequest, match=r"selector\.basis"):
        check_revocation(revocation)
    check_revocation(replace(revocation, selector=Selector(basis="intent/7")))
    assert usually_stops(Selector(basis="intent/7"), 1)


def test_its_text_reads_back() -> None:
    assert origin_from_text(origin_text(origin())) == origin()
    assert (origin_text(None), origin_from_text("")) == ("", None)


def test_what_a_record_rests_on_is_found_by_name() -> None:
    approved = Approved("a-1", 3, "digest", "", ("read",), None, 7, 1)
    assert basis_of(None, approved) == ("approval/a-1",)
    assert basis_of(origin(), approved)[-1] == "approval/a-1"
    names, above = basis_from_texts(origin_text(origin()), '{"id":"a-1"}')
    assert names == basis_of(origin(), approved)
    assert above == (ABOVE,)
    assert basis_from_texts("", "") == ((), ())


def test_a_use_is_claimed_once_and_only_where_there_is_a_number() -> None:
    token = Minted("jti", 9, b"s")

    def taken(rests_on: Origin, minted: Minted | None = token) -> list[str]:
        record = record_decision(
            decided("read", rests_on=rests_on), decision_id=ID, caller=caller(), peer="", request=request("read"),
            facts={}, now=NOW, minted=minted,
        )  # fmt: skip
        return [f"{claim.key} {claim.expires_at} {claim.detail}" for claim in claims_of([record])]

    assert taken(origin()) == [f'intent/i-1/2 99 {{"decision":"{ID}","kind":"use"}}']
    assert taken(origin(number=0)) == []
    assert taken(origin(), None) == []


def test_a_record_with_an_origin_replays() -> None:
    record = record_decision(
        decided("read", rests_on=origin()), decision_id=ID, caller=caller(), peer="", request=request("read"), facts={},
        now=NOW,
    )  # fmt: skip
    inputs = recorded(record)
    assert inputs.origin == origin()
    assert differing_fields(record, inputs, POLICY) == ()


def delegated(**changes: Any) -> Decision:
    plain = plain_decision()
    rests_on = origin(scopes=SCOPES, until=(NOW_SECONDS + 90) * 1_000_000, **changes)
    return plain.with_grant(origin=rests_on)


def test_the_claims_name_whom_the_caller_acts_for() -> None:
    decision = delegated(kind=OriginKind.ACCESS)
    claims = json.loads(decision.payload())
    decision.check_payload(decision.payload())
    assert (claims["sub"], claims["client_id"], claims["aud"]) == (ALICE, str(decision.caller.spiffe_id), AUDIENCE)
    assert claims["act"] == {
        "sub": SETTLER,
        "iss": "spiffe://prod.example",
        "act": {"sub": "spiffe://other.example/x", "iss": "spiffe://other.example"},
    }
    assert (claims["txn"], claims["grant_id"]) == ("tx-1", "i-1")
    assert claims["authorization_details"] == [{"type": "t"}]


def test_a_window_of_the_caller_itself_has_no_actors() -> None:
    decision = delegated(subject=SETTLER, actors=(), details="", transaction="")
    assert not {"act", "authorization_details", "txn", "grant_id"} & json.loads(decision.payload()).keys()
    decision.check_payload(decision.payload())


TAMPERED: dict[str, tuple[str, dict[str, object]]] = {
    "another subject": ("sub", {"sub": SETTLER}),
    "another client": ("client_id", {"client_id": ALICE}),
    "no actor": ("act", {"act": None}),
    "another actor": ("act", {"act": {"sub": ALICE, "iss": "spiffe://prod.example"}}),
    "a chain cut short": ("act", {"act": {"sub": SETTLER, "iss": "spiffe://prod.example"}}),
    "an actor with more to say": ("act", {"act": {"sub": SETTLER, "iss": "spiffe://prod.example", "scope": "x"}}),
    "a list of actors": ("act", {"act": [{"sub": SETTLER, "iss": "spiffe://prod.example"}]}),
    "other details": ("authorization_details", {"authorization_details": [{"type": "u"}]}),
    "another transaction": ("txn", {"txn": "tx-2"}),
    "another window": ("grant_id", {"grant_id": "i-2"}),
}


@pytest.mark.parametrize(("claim", "changes"), TAMPERED.values(), ids=TAMPERED.keys())
def test_other_claims_than_those_of_the_origin_are_refused(claim: str, changes: dict[str, object]) -> None:
    decision = delegated(kind=OriginKind.ACCESS)
    claims = json.loads(decision.payload()) | changes
    with pytest.raises(ClaimsMismatch) as refused:
        decision.check_payload(json.dumps(claims).encode())
    assert refused.value.claim == claim


def test_claims_beyond_the_origin_are_refused_whatever_was_granted() -> None:
    narrow = delegated()
    for claim, changes in (
        ("scope", {"scopes": SCOPES[:1]}),
        ("exp", {"until": (NOW_SECONDS + 89) * 1_000_000}),
        ("cnf", {"bind": True}),
        ("act", {"actors": ()}),
        ("application", {"application": "other"}),
    ):
        assert narrow.grant.origin is not None
        decision = narrow.with_grant(origin=replace(narrow.grant.origin, **changes))
        with pytest.raises(ClaimsMismatch) as refused:
            decision.check_payload(decision.payload())
        assert refused.value.claim == claim
