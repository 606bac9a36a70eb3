"""Decisions on what people approved: it removes one obstacle, for exactly what was asked, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support.policies import (
    AUDIENCES,
    NOW,
    SETTLER,
    caller,
    grant,
    grants,
    policy,
    prohibition,
    prohibitions,
    request,
)

from issuer.core.approval_request import asked_for
from issuer.core.approvals import Approvals, Approved
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant, LifetimeBound
from issuer.core.errors import Reason
from issuer.core.facts import Fact
from issuer.core.instants import microseconds
from issuer.core.policy_faults import PolicyInvalid
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.record import record_decision
from issuer.core.replay import Change, change, differing_fields, recorded, told_before, told_by
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent

if TYPE_CHECKING:
    from issuer.core.policy import Policy
    from issuer.core.token_request import TokenRequest

NEEDED = "approval: {approvers: ['spiffe://people.example/*'], valid_for: 15m}"
APPROVABLE = AUDIENCES.replace("risk: critical}", f"risk: critical, {NEEDED}}}").replace(
    "risk: moderate}", f"risk: moderate, {NEEDED}}}"
)
SCOPES = "[read, report, refund]"
FACTS = "facts: [{name: risk, subject: caller, max_age: 5m, fields: {score: int}}]"
POLICY = policy(grants(grant(scopes=SCOPES)), audiences=APPROVABLE)
REFUND = request("read", "refund")


def approved(
    wanted: TokenRequest = REFUND,
    rules: Policy = POLICY,
    *scopes: str,
    by: str = SETTLER,
    application: str | None = None,
    rest: timedelta = timedelta(minutes=5),
    ttl: int | None = None,
    uses: int = 1,
) -> Approvals:
    asked = asked_for(SpiffeId.parse(by), wanted, application, rules.digest)
    until = microseconds(NOW + rest)
    return Approvals([Approved("a", 3, asked.digest, asked.application, scopes or ("refund",), ttl, until, uses)])


def answer(wanted: TokenRequest = REFUND, approvals: Approvals | None = None, rules: Policy = POLICY) -> Grant | Denial:
    return decide(rules, caller(), wanted, {}, NOW, approvals=approved() if approvals is None else approvals)


def reason(decided: Grant | Denial) -> Reason | None:
    return decided.reason if isinstance(decided, Denial) else None


def test_what_was_approved_is_granted_and_names_its_approval() -> None:
    granted = answer()
    assert isinstance(granted, Grant)
    assert granted.scopes == ("read", "refund")
    assert granted.approval is not None
    assert (granted.approval.id, granted.approval.number) == ("a", 3)


@pytest.mark.parametrize(
    "other",
    [
        request("refund"),
        request("read", "report", "refund"),
        request("read", "refund", ttl=timedelta(seconds=30)),
        request("read", "refund", bind_certificate=True),
        replace(REFUND, intent=Intent(operation="other")),
        replace(REFUND, grant_type=GrantType.JIT),
    ],
)
def test_an_approval_is_for_exactly_what_was_asked(other: TokenRequest) -> None:
    rules = policy(grants(grant(scopes=SCOPES, grant_types="[client_credentials, jit]")), audiences=APPROVABLE)
    assert reason(answer(other, approved(rules=rules), rules)) is Reason.APPROVAL_REQUIRED
    assert reason(answer(other, approved(other, rules, "refund", "report"), rules)) is None


def test_an_approval_is_not_anothers() -> None:
    approvals = approved(by="spiffe://prod.example/ns/payments/sa/other")
    assert reason(answer(approvals=approvals)) is Reason.APPROVAL_REQUIRED


def test_an_approval_under_another_policy_counts_no_more() -> None:
    changed = policy(grants(grant(scopes=SCOPES, max_ttl="1m")), audiences=APPROVABLE)
    assert reason(answer(approvals=approved(), rules=changed)) is Reason.APPROVAL_REQUIRED


def test_an_approval_is_for_the_application_that_policy_resolved() -> None:
    rules = policy(grants(grant(scopes=SCOPES, application="payments")), audiences=APPROVABLE)
    assert reason(answer(rules=rules, approvals=approved(rules=rules, application="other"))) is Reason.APPROVAL_REQUIRED
    assert reason(answer(rules=rules, approvals=approved(rules=rules, application="payments"))) is None


def test_scopes_that_were_not_approved_are_refused_and_named() -> None:
    wanted = request("report", "refund")
    denied = answer(wanted, approved(wanted, POLICY, "refund"))
    assert isinstance(denied, Denial)
    assert (denied.reason, denied.scopes) == (Reason.APPROVAL_REQUIRED, ("report",))
    assert denied.approval is not None


def test_an_approval_that_was_narrowed_gives_a_partial_answer_to_who_takes_one() -> None:
    wanted = request("report", "refund")
    granted = answer(replace(wanted, allow_partial=True), approved(wanted, POLICY, "refund"))
    assert isinstance(granted, Grant)
    assert (granted.scopes, granted.refused_scopes) == (("refund",), ("report",))


@pytest.mark.parametrize(("rest", "lifetime"), [(timedelta(seconds=10), 10), (timedelta(seconds=11.9), 11)])
def test_no_token_outlives_its_approval(rest: timedelta, lifetime: int) -> None:
    granted = answer(approvals=approved(rest=rest))
    assert isinstance(granted, Grant)
    assert (granted.lifetime, granted.lifetime_bound) == (timedelta(seconds=lifetime), LifetimeBound.APPROVAL)


@pytest.mark.parametrize("rest", [timedelta(seconds=9.999999), timedelta(0), timedelta(days=-1)])
def test_an_approval_without_room_for_a_token_is_over(rest: timedelta) -> None:
    assert reason(answer(approvals=approved(rest=rest))) is Reason.APPROVAL_REQUIRED


def test_the_lifetime_that_an_approver_set_holds() -> None:
    granted = answer(approvals=approved(ttl=20))
    assert isinstance(granted, Grant)
    assert (granted.lifetime, granted.lifetime_bound) == (timedelta(seconds=20), LifetimeBound.APPROVAL)


def test_what_needs_no_approval_uses_none() -> None:
    granted = answer(request("read"), approved(request("read")))
    assert isinstance(granted, Grant)
    assert granted.approval is None
    assert granted.lifetime_bound is not LifetimeBound.APPROVAL


def test_an_approval_is_no_grant() -> None:
    for rules in (
        policy(grants(grant(scopes="[read]")), audiences=APPROVABLE),
        policy(grants(grant(scopes=SCOPES)), prohibitions(prohibition()), audiences=APPROVABLE),
        policy(grants(grant(scopes=SCOPES, expires="2020-01-01")), audiences=APPROVABLE),
    ):
        assert reason(answer(approvals=approved(rules=rules), rules=rules)) is not None


def test_a_risk_that_rose_after_the_approval_refuses() -> None:
    rules = policy(FACTS, grants(grant(scopes=SCOPES, when="facts.risk.score < 80")), audiences=APPROVABLE)
    approvals = approved(rules=rules)
    outcomes = []
    for score in (3, 81):
        fact = Fact("risk", SETTLER, {"score": score}, "test", NOW, NOW + timedelta(hours=1))
        outcomes.append(reason(decide(rules, caller(), REFUND, {fact.key: fact}, NOW, approvals=approvals)))
    assert outcomes == [None, Reason.CONDITION_NOT_MET]
    assert reason(answer(approvals=approvals, rules=rules)) is Reason.FACT_MISSING


def test_a_use_leaves_one_less() -> None:
    twice = approved(uses=2)
    first = answer(approvals=twice)
    assert isinstance(first, Grant)
    assert first.approval is not None
    left = twice.after_use(first.approval)
    second = answer(approvals=left)
    assert isinstance(second, Grant)
    assert second.approval == replace(first.approval, number=4, uses=1)
    assert left.after_use(second.approval).is_empty


@pytest.mark.parametrize(
    ("wanted", "scopes"),
    [
        (REFUND, ("refund",)),
        (request("report", "refund"), ("refund",)),
        (request("report", "refund", allow_partial=True), ("refund",)),
    ],
)
def test_a_decision_that_read_an_approval_comes_out_again(wanted: TokenRequest, scopes: tuple[str, ...]) -> None:
    decided = answer(wanted, approved(wanted, POLICY, *scopes))
    record = record_decision(
        decided, decision_id=str(UUID(int=7)), caller=caller(), peer="", request=wanted, facts={}, now=NOW
    )
    assert record.approval
    assert differing_fields(record, recorded(record), POLICY) == ()
    shorter = policy(grants(grant(scopes=SCOPES, max_ttl="20s")), audiences=APPROVABLE)
    expected = Change.SAME if isinstance(decided, Denial) else Change.OTHER_LIFETIME
    assert change(told_before(record), told_by(shorter, recorded(record))) is expected
    elsewhere = policy(grants(grant(scopes=SCOPES, application="payments")), audiences=APPROVABLE)
    assert told_by(elsewhere, recorded(record)).reason  # approved on behalf of nobody


@pytest.mark.parametrize("workload", [f"spiffe://people.example/{path}" for path in ("alice", "*", "**")])
def test_who_may_call_may_not_approve(workload: str) -> None:
    with pytest.raises(PolicyInvalid, match="may call and may approve as well"):
        policy(grants(grant(), grant("h", workload=workload)), audiences=APPROVABLE)


def test_who_may_call_may_not_approve_for_a_tier_either() -> None:
    tier = f"risk_tiers: {{high: {{{NEEDED}}}}}"
    with pytest.raises(PolicyInvalid, match="/alice may call"):
        policy(tier, grants(grant(workload="spiffe://people.example/alice")))


def test_who_tells_facts_may_not_approve() -> None:
    feeder = SpiffeId.parse("spiffe://people.example/alice")
    tier = f"risk_tiers: {{high: {{{NEEDED}}}}}\n"
    for content in (APPROVABLE, AUDIENCES + tier):
        files = [PolicyFile("policy.yaml", content.encode())]
        parse_policy(files, feeders=[SpiffeId.parse(SETTLER)])
        with pytest.raises(PolicyInvalid, match=r"policy.yaml:[0-9:]+ approval: .*alice tells facts and may approve"):
            parse_policy(files, feeders=[feeder])


def test_who_brings_the_evidence_of_others_may_not_approve() -> None:
    gateway = SpiffeId.parse("spiffe://people.example/alice")
    files = [PolicyFile("policy.yaml", APPROVABLE.encode())]
    parse_policy(files, gateways=[SpiffeId.parse(SETTLER)])
    with pytest.raises(PolicyInvalid, match=r"policy.yaml:[0-9:]+ approval: .*alice brings the evidence of others"):
        parse_policy(files, gateways=[gateway])
