"""What proves that a person approves this request now, and everything that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from issuer.core.approval_evidence import MAX_ACR_CHARACTERS, MAX_AMR, Anchor, Evidence, EvidenceRules, evidence_nonce
from issuer.core.approval_request import AskedFor, Need, Question
from issuer.core.assertion import Assertion
from issuer.core.errors import AdminRefused, Reason
from issuer.core.spiffe_id import SpiffeId

NOW = 1_795_521_600
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
ALICE, BOB = (SpiffeId.parse(f"spiffe://people.example/user/{name}") for name in ("alice", "bob"))
ADMIN_ALICE = SpiffeId.parse("spiffe://people.example/admin/al")
GATEWAY = SpiffeId.parse("spiffe://prod.example/ns/chat/sa/bot")
PEOPLE = {str(ALICE): "00u1", str(ADMIN_ALICE): "00u1", str(BOB): "00u2"}
RULES = EvidenceRules((Anchor("people", PEOPLE),), 300, frozenset({GATEWAY}))
BY_CLAIM = EvidenceRules((Anchor("people", {}, "spiffe://people.example/user", "employee"),), 300, frozenset({GATEWAY}))
ASKED = AskedFor(SETTLER, "", "https://ledger.example", ("refund",), None, "", False, "client_credentials", "d")  # noqa: FBT003
REFUND = Need("refund", "critical", ("spiffe://people.example/**",), 1, 900_000_000, 1, human=True)
QUESTION = Question("id-1", ASKED, (REFUND,), "why", (), 0, "decision", lifetime=60, min_ttl=10)


def said(question: Question = QUESTION, **changes: Any) -> Assertion:
    usual = Assertion(
        source="people",
        issuer="https://login.example",
        subject="00u1",
        audience="spiffe-issuer",
        issued_at=NOW,
        expires_at=NOW + 300,
        auth_time=NOW - 10,
        nonce=evidence_nonce(question),
        fingerprint="f" * 64,
        claims={},
    )
    return replace(usual, **changes)


def take(
    assertion: Assertion, by: SpiffeId = ALICE, *, rules: EvidenceRules = RULES, question: Question = QUESTION
) -> tuple[str, Evidence]:
    return rules.take(assertion, question, by, NOW)


def refusal(
    assertion: Assertion, by: SpiffeId = ALICE, *, rules: EvidenceRules = RULES, question: Question = QUESTION
) -> Reason:
    with pytest.raises(AdminRefused) as refused:
        take(assertion, by, rules=rules, question=question)
    assert assertion.subject not in refused.value.message
    return refused.value.reason


def test_a_person_who_signed_in_for_this_request_approves_it() -> None:
    by, evidence = take(said(claims={"acr": "phr", "amr": ["pwd", "hwk"]}))
    assert by == str(ALICE)
    assert (evidence.issuer, evidence.auth_time, evidence.acr, evidence.amr, evidence.token, evidence.gateway) == (
        "https://login.example", NOW - 10, "phr", ("pwd", "hwk"), "f" * 64, "",
    )  # fmt: skip
    assert "00u1" not in str(evidence)


def test_every_request_has_its_own_nonce_even_for_the_same() -> None:
    other_asked = replace(QUESTION, asked=replace(ASKED, policy="other"))
    nonces = {evidence_nonce(each) for each in (QUESTION, replace(QUESTION, id="id-2"), other_asked)}
    assert len(nonces) == 3
    assert QUESTION.asked.digest not in nonces


def test_evidence_for_another_request_is_refused() -> None:
    for nonce in ("", QUESTION.asked.digest, evidence_nonce(replace(QUESTION, id="id-2"))):
        assert refusal(said(nonce=nonce)) is Reason.EVIDENCE_REFUSED


def test_an_issuer_that_does_not_vouch_for_people_is_refused() -> None:
    assert refusal(said(source="pipelines")) is Reason.EVIDENCE_REFUSED
    assert refusal(said(), rules=EvidenceRules()) is Reason.EVIDENCE_REFUSED


def test_who_signed_in_too_long_ago_is_refused() -> None:
    take(said(auth_time=NOW - 300))
    assert refusal(said(auth_time=NOW - 301)) is Reason.EVIDENCE_REFUSED
    assert refusal(said(auth_time=None)) is Reason.EVIDENCE_REFUSED


def test_the_token_of_another_person_is_refused() -> None:
    assert refusal(said(subject="00u2")) is Reason.EVIDENCE_REFUSED
    assert refusal(said(subject="00u3")) is Reason.EVIDENCE_REFUSED
    assert refusal(said(), BOB) is Reason.EVIDENCE_REFUSED


def test_a_claim_can_be_the_last_segment_of_the_spiffe_id() -> None:
    assert take(said(claims={"employee": "alice"}), rules=BY_CLAIM)[0] == str(ALICE)


@pytest.mark.parametrize("value", ["bob", "", "x/../alice", "/alice", "a lice", "..", 7, None, ["alice"]])
def test_a_claim_that_is_no_segment_or_another_is_nobody(value: object) -> None:
    assert refusal(said(claims={"employee": value}), rules=BY_CLAIM) is Reason.EVIDENCE_REFUSED


def test_the_requesters_own_person_never_counts_under_whichever_of_their_ids() -> None:
    asked_by_alice = replace(QUESTION, asked=replace(ASKED, caller=str(ADMIN_ALICE)))
    assert refusal(said(asked_by_alice), question=asked_by_alice) is Reason.APPROVER_NOT_ALLOWED
    twin = replace(QUESTION, asked=replace(ASKED, caller="spiffe://partner.example/admin/al"))
    assert refusal(said(twin), question=twin) is Reason.APPROVER_NOT_ALLOWED
    assert take(said(asked_by_alice, subject="00u2"), BOB, question=asked_by_alice)[0] == str(BOB)


def test_the_owner_does_not_approve_under_another_of_their_ids() -> None:
    owned = replace(QUESTION, owners=("al",))
    assert refusal(said(owned), question=owned) is Reason.APPROVER_NOT_ALLOWED


def test_a_gateway_brings_a_person_whom_policy_names() -> None:
    by, evidence = take(said(subject="00u2"), GATEWAY)
    assert (by, evidence.gateway) == (str(BOB), str(GATEWAY))
    narrow = replace(QUESTION, needs=(REFUND._replace(approvers=(str(ALICE),)),))
    assert take(said(narrow), GATEWAY, question=narrow)[0] == str(ALICE)  # not the first of her identities


def test_a_gateway_cannot_bring_whom_policy_does_not_name() -> None:
    narrow = replace(QUESTION, needs=(REFUND._replace(approvers=(str(ALICE),)),))
    assert refusal(said(narrow, subject="00u2"), GATEWAY, question=narrow) is Reason.APPROVER_NOT_ALLOWED
    assert refusal(said(subject="00u3"), GATEWAY) is Reason.APPROVER_NOT_ALLOWED


def test_a_gateway_cannot_bring_approvals_of_what_it_asked_for_itself() -> None:
    own = replace(QUESTION, asked=replace(ASKED, caller=str(GATEWAY)))
    assert refusal(said(own), GATEWAY, question=own) is Reason.APPROVER_NOT_ALLOWED


def test_the_same_person_has_one_hash_within_a_request_and_another_elsewhere() -> None:
    other = replace(QUESTION, id="id-2")
    here, again = take(said())[1], take(said(auth_time=NOW), ADMIN_ALICE)[1]
    elsewhere = take(said(other), question=other)[1]
    another_issuer = take(said(issuer="https://login.partner.example"))[1]
    assert here.person == again.person
    assert len({here.person, elsewhere.person, another_issuer.person, take(said(subject="00u2"), BOB)[1].person}) == 4


@pytest.mark.parametrize(
    ("claims", "acr", "amr"),
    [
        ({"acr": 1, "amr": "pwd"}, "", ()),
        ({"acr": "x" * (MAX_ACR_CHARACTERS + 1), "amr": [1, "otp", "a\nb"]}, "", ("otp",)),
        ({"acr": "x" * MAX_ACR_CHARACTERS, "amr": ["m"] * 50}, "x" * MAX_ACR_CHARACTERS, ("m",) * MAX_AMR),
    ],
)
def test_what_is_kept_of_how_they_signed_in_is_bounded(claims: dict[str, Any], acr: str, amr: tuple[str, ...]) -> None:
    _, evidence = take(said(claims=claims))
    assert (evidence.acr, evidence.amr) == (acr, amr)
