"""The life of a request for approval: who may do what to it, and that no order of things gives more than was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from issuer.core.approval_evidence import Evidence
from issuer.core.approval_request import AskedFor, Need, Question
from issuer.core.approval_state import ApprovalRequest, Refusal, Status, Step, StepKind, apply, begin
from issuer.core.approval_text import question_from_text, question_text, step_from_text, step_text
from issuer.core.errors import Reason

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
ALICE, BOB, CAROL = (f"spiffe://people.example/user/{name}" for name in ("alice", "bob", "carol"))
BOB_ELSEWHERE = "spiffe://partner.example/user/bob"
APPROVERS = ("spiffe://people.example/user/*", "spiffe://partner.example/user/*")
MINUTE = 60_000_000

REFUND = Need("refund", "critical", APPROVERS, quorum=1, valid_for=15 * MINUTE, uses=1)
PAYOUT = Need("payout", "critical", APPROVERS, quorum=2, valid_for=20 * MINUTE, uses=3)
ASKED = AskedFor(SETTLER, "payments", "https://ledger.example", ("payout", "read", "refund"), None, "", False, "x", "d")  # noqa: FBT003


def question(*needs: Need, caller: str = SETTLER, owners: tuple[str, ...] = ()) -> Question:
    asked = replace(ASKED, caller=caller)
    return Question("id", asked, needs or (REFUND,), "why", owners, 0, "decision", lifetime=60, min_ttl=10)


def approve(by: str, *scopes: str, ttl: int | None = None) -> Step:
    return Step(StepKind.APPROVE, by, scopes or None, ttl)


def after(request: ApprovalRequest, *steps: Step, now: int = MINUTE) -> ApprovalRequest:
    for step in steps:
        answered = apply(request, step, now)
        assert isinstance(answered, ApprovalRequest), answered
        request = answered
    return request


def refusal(request: ApprovalRequest, step: Step, now: int = MINUTE) -> Reason:
    answered = apply(request, step, now)
    assert isinstance(answered, Refusal), answered
    return answered.reason


class TestApproving:
    def test_one_approver_is_enough_where_one_is_asked_for(self) -> None:
        approved = after(begin(question()), approve(ALICE))
        assert approved.status_at(MINUTE) is Status.APPROVED
        assert (approved.until, approved.uses_left) == (16 * MINUTE, 1)
        counted_on = approved.approved_at(MINUTE)
        assert counted_on is not None
        assert (counted_on.scopes, counted_on.number, counted_on.digest) == (("refund",), 3, ASKED.digest)

    def test_nothing_is_approved_before_the_quorum_of_each_scope(self) -> None:
        asked = begin(question(REFUND, PAYOUT))
        one = after(asked, approve(ALICE))
        assert one.status_at(MINUTE) is Status.PENDING
        assert one.approved_at(MINUTE) is None
        assert after(one, approve(BOB)).status_at(MINUTE) is Status.APPROVED

    def test_the_shortest_of_the_needs_bounds_time_and_uses(self) -> None:
        two = after(begin(question(REFUND, PAYOUT)), approve(ALICE), approve(BOB))
        assert (two.until, two.uses_left) == (16 * MINUTE, 1)

    def test_who_asked_does_not_approve_nor_does_its_federated_twin(self) -> None:
        for caller in (BOB, BOB_ELSEWHERE):
            asked = begin(question(caller=caller))
            assert refusal(asked, approve(BOB)) is Reason.APPROVER_NOT_ALLOWED

    @pytest.mark.parametrize(
        "owner", [BOB, BOB_ELSEWHERE, "/user/bob", "bob", "Bob", "spiffe://elsewhere.example/user/bob"]
    )
    def test_the_owner_of_a_grant_does_not_approve_however_it_is_named(self, owner: str) -> None:
        asked = begin(question(owners=("finance-team", owner)))
        assert refusal(asked, approve(BOB)) is Reason.APPROVER_NOT_ALLOWED
        after(asked, approve(ALICE))

    def test_whom_policy_does_not_name_does_not_approve(self) -> None:
        for stranger in (SETTLER, "spiffe://people.example/user/bob/laptop", "spiffe://other.example/user/bob"):
            asked = begin(question(caller="spiffe://prod.example/other"))
            for kind in (StepKind.APPROVE, StepKind.DENY):
                assert refusal(asked, Step(kind, stranger)) is Reason.APPROVER_NOT_ALLOWED

    def test_the_same_approver_counts_once(self) -> None:
        one = after(begin(question(PAYOUT)), approve(ALICE))
        assert refusal(one, approve(ALICE)) is Reason.APPROVAL_NOT_OPEN

    def test_a_federated_twin_is_the_same_person(self) -> None:
        one = after(begin(question(PAYOUT)), approve(BOB))
        assert refusal(one, approve(BOB_ELSEWHERE)) is Reason.APPROVER_NOT_ALLOWED

    def test_an_approver_of_some_scopes_says_nothing_of_the_others(self) -> None:
        of_bob = PAYOUT._replace(approvers=(BOB,), quorum=1)
        one = after(begin(question(REFUND._replace(approvers=(ALICE,)), of_bob)), approve(ALICE))
        assert (one.status, one.scopes_left) == (Status.PENDING, ("refund", "payout"))
        assert refusal(one, approve(BOB, "refund")) is Reason.REQUEST_INVALID
        assert after(one, approve(BOB)).status is Status.APPROVED


class TestNarrowing:
    def test_what_one_approver_leaves_out_is_out_for_all(self) -> None:
        one = after(begin(question(REFUND, PAYOUT)), approve(ALICE, "payout"))
        assert refusal(one, approve(BOB, "refund")) is Reason.REQUEST_INVALID
        two = after(one, approve(BOB))
        assert two.scopes_left == ("payout",)
        assert two.status is Status.APPROVED

    def test_leaving_out_what_waits_for_others_completes_the_rest(self) -> None:
        assert after(begin(question(REFUND, PAYOUT)), approve(ALICE, "refund")).status is Status.APPROVED

    @pytest.mark.parametrize("scopes", [("read",), ("refund", "read"), ("refund", "refund"), ("REFUND",)])
    def test_an_approver_cannot_widen_scopes(self, scopes: tuple[str, ...]) -> None:
        assert refusal(begin(question()), approve(ALICE, *scopes)) is Reason.REQUEST_INVALID

    def test_approving_no_scope_is_no_approval(self) -> None:
        assert refusal(begin(question()), Step(StepKind.APPROVE, ALICE, ())) is Reason.REQUEST_INVALID

    @pytest.mark.parametrize("ttl", [-1, 0, 9, 61])
    def test_an_approver_cannot_lengthen_nor_shorten_below_what_is_issued(self, ttl: int) -> None:
        assert refusal(begin(question()), approve(ALICE, ttl=ttl)) is Reason.REQUEST_INVALID

    def test_the_shortest_lifetime_counts(self) -> None:
        two = after(begin(question(PAYOUT)), approve(ALICE, ttl=10), approve(BOB, ttl=60))
        assert two.ttl == 10


def proved(person: str) -> Evidence:
    return Evidence("https://login.example", person, 1, "phr", ("hwk",), "f" * 64)


class TestPersons:
    HUMAN = PAYOUT._replace(human=True)

    def test_what_needs_a_person_is_not_approved_without_evidence(self) -> None:
        asked = begin(question(self.HUMAN))
        assert refusal(asked, approve(ALICE)) is Reason.EVIDENCE_REQUIRED
        one = after(asked, approve(ALICE)._replace(evidence=proved("a")))
        assert one.given[0].evidence == proved("a")
        assert refusal(one, approve(BOB)) is Reason.EVIDENCE_REQUIRED
        assert after(one, approve(BOB)._replace(evidence=proved("b"))).status is Status.APPROVED

    def test_the_same_person_counts_once_under_two_svids(self) -> None:
        one = after(begin(question(self.HUMAN)), approve(ALICE)._replace(evidence=proved("a")))
        assert refusal(one, approve(BOB)._replace(evidence=proved("a"))) is Reason.APPROVER_NOT_ALLOWED

    def test_the_same_evidence_again_is_no_second_approval(self) -> None:
        one = after(begin(question(self.HUMAN)), approve(ALICE)._replace(evidence=proved("a")))
        assert refusal(one, approve(ALICE)._replace(evidence=proved("a"))) is Reason.APPROVAL_NOT_OPEN

    def test_what_needs_no_person_can_be_approved_without_and_leaves_the_rest_out(self) -> None:
        asked = begin(question(REFUND, self.HUMAN))
        assert refusal(asked, approve(ALICE)) is Reason.EVIDENCE_REQUIRED
        assert after(asked, approve(ALICE, "refund")).scopes_left == ("refund",)

    def test_a_denial_needs_no_evidence(self) -> None:
        assert after(begin(question(self.HUMAN)), Step(StepKind.DENY, BOB)).status is Status.DENIED


class TestEnding:
    def test_one_no_is_enough(self) -> None:
        denied = after(begin(question(PAYOUT)), approve(ALICE), Step(StepKind.DENY, BOB, why="not today"))
        assert (denied.status, denied.ended_by, denied.ended_why) == (Status.DENIED, BOB, "not today")
        assert refusal(denied, approve(CAROL)) is Reason.APPROVAL_NOT_OPEN

    def test_only_who_asked_cancels(self) -> None:
        asked = begin(question())
        assert refusal(asked, Step(StepKind.CANCEL, ALICE)) is Reason.APPROVER_NOT_ALLOWED
        assert after(asked, Step(StepKind.CANCEL, SETTLER)).status is Status.CANCELLED

    @pytest.mark.parametrize("step", [Step(StepKind.DENY, BOB), Step(StepKind.CANCEL, SETTLER)])
    def test_what_was_approved_can_be_taken_back(self, step: Step) -> None:
        revoked = after(begin(question()), approve(ALICE), step)
        assert revoked.status is Status.REVOKED
        assert revoked.approved_at(MINUTE) is None
        assert refusal(revoked, Step(StepKind.USE, SETTLER)) is Reason.APPROVAL_NOT_OPEN

    def test_time_ends_what_nobody_answered(self) -> None:
        asked = begin(question())
        after(asked, approve(ALICE), now=15 * MINUTE - 1)
        assert refusal(asked, approve(ALICE), now=15 * MINUTE) is Reason.APPROVAL_NOT_OPEN
        assert asked.status_at(15 * MINUTE) is Status.EXPIRED

    def test_time_ends_what_nobody_used(self) -> None:
        approved = after(begin(question()), approve(ALICE))
        assert approved.approved_at(16 * MINUTE - 1) is not None
        assert approved.approved_at(16 * MINUTE) is None
        assert refusal(approved, Step(StepKind.USE, SETTLER), now=16 * MINUTE) is Reason.APPROVAL_NOT_OPEN

    def test_it_is_used_as_often_as_policy_says(self) -> None:
        approved = after(begin(question(PAYOUT)), approve(ALICE), approve(BOB))
        used = after(approved, *[Step(StepKind.USE, SETTLER)] * 3)
        assert used.status_at(MINUTE) is Status.USED_UP
        assert refusal(used, Step(StepKind.USE, SETTLER)) is Reason.APPROVAL_NOT_OPEN

    def test_it_is_not_used_before_it_is_approved_nor_approved_twice(self) -> None:
        assert refusal(begin(question()), Step(StepKind.USE, SETTLER)) is Reason.APPROVAL_NOT_OPEN
        assert refusal(after(begin(question()), approve(ALICE)), approve(BOB)) is Reason.APPROVAL_NOT_OPEN


STEPS = st.builds(
    Step,
    kind=st.sampled_from(StepKind),
    by=st.sampled_from([SETTLER, ALICE, BOB, BOB_ELSEWHERE, CAROL, "spiffe://prod.example/other"]),
    scopes=st.none() | st.lists(st.sampled_from(["refund", "payout", "read"]), max_size=3).map(tuple),
    ttl=st.none() | st.integers(5, 70),
    why=st.text("ab ", max_size=3),
    evidence=st.none() | st.sampled_from("abc").map(proved),
)


class Life(RuleBasedStateMachine):
    """Anybody does anything at any time; what must never be, never is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.request = begin(question(REFUND, PAYOUT._replace(uses=2, human=True), owners=("carol",)))
        self.uses = 0
        self.over: Status | None = None

    @rule(time=st.sampled_from([0, 1, MINUTE, 7 * MINUTE]))
    def time_passes(self, time: int) -> None:
        self.now += time

    @rule(step=STEPS)
    def somebody_does_something(self, step: Step) -> None:
        answered = apply(self.request, step, self.now)
        if isinstance(answered, Refusal):
            return
        assert answered.number == self.request.number + 1
        assert answered.dropped >= self.request.dropped
        assert self.over is None, f"{step} changed what was {self.over}"
        self.uses += step.kind is StepKind.USE
        self.request = answered

    @precondition(lambda self: self.request.status_at(self.now) is Status.APPROVED)
    @rule()
    def the_caller_uses_it(self) -> None:
        self.somebody_does_something(Step(StepKind.USE, SETTLER))

    @invariant()
    def no_more_uses_than_allowed(self) -> None:
        assert self.uses <= self.request.question.uses

    @invariant()
    def what_is_approved_has_its_quorum_of_persons(self) -> None:
        approved = self.request.approved_at(self.now)
        if approved is None:
            return
        assert approved.scopes
        for need in self.request.question.needs:
            persons = {each.by.split("example")[1] for each in self.request.given if need.scope in each.scopes}
            assert not persons & {"/user/carol", "/ns/payments/sa/settler"}
            assert need.scope not in approved.scopes or len(persons) >= need.quorum
            if need.human and need.scope in approved.scopes:
                given = [each.evidence for each in self.request.given if need.scope in each.scopes]
                assert len({each.person for each in given if each is not None}) == len(given) >= need.quorum
        assert approved.ttl is None or 10 <= approved.ttl <= 60
        assert approved.until <= self.request.question.over_at

    @invariant()
    def what_is_over_stays_over(self) -> None:
        status = self.request.status_at(self.now)
        assert self.over in (None, status)
        if status not in {Status.PENDING, Status.APPROVED}:
            self.over = status


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_a_question_and_its_steps_read_back_as_they_were() -> None:
    asked = question(REFUND, PAYOUT._replace(human=True), owners=("alice",))
    assert question_from_text(question_text(asked)) == asked
    for step in (
        approve(ALICE, "refund", ttl=10),
        Step(StepKind.DENY, BOB, why="no", development=True),
        approve(ALICE)._replace(evidence=proved("a")),
    ):
        assert step_from_text(step_text(step), step.by) == step


OTHERWISE: tuple[dict[str, Any], ...] = (
    {"caller": "x"}, {"application": "x"}, {"audience": "x"}, {"scopes": ("read",)}, {"ttl": 1}, {"intent": "x"},
    {"bind_certificate": True}, {"grant_type": "y"}, {"policy": "x"},
)  # fmt: skip


@pytest.mark.parametrize("other", OTHERWISE, ids=lambda other: next(iter(other)))
def test_whatever_is_asked_otherwise_has_another_digest(other: dict[str, Any]) -> None:
    assert replace(ASKED, **other).digest != ASKED.digest


def test_what_needs_no_person_is_written_as_issuers_of_a_version_before_read_it() -> None:
    assert "human" not in question_text(question(REFUND))
    assert "evidence" not in step_text(approve(ALICE))
