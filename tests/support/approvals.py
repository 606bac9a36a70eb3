"""Requests for approval for tests: a question, its steps, and decisions that use it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from issuer.core.approval_request import AskedFor, Need, Question
from issuer.core.approval_state import Step, StepKind
from issuer.core.approval_text import approval_text, question_text, step_text
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import APPROVAL, APPROVAL_GIVEN, APPROVAL_REQUESTED, StepTaken
from issuer.system import RandomIds, SystemClock
from support.ledgers import record

if TYPE_CHECKING:
    from issuer.core.approvals import Approved
    from issuer.core.record import DecisionRecord

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
ALICE, BOB = "spiffe://people.example/user/alice", "spiffe://people.example/user/bob"
MINUTES = 60_000_000


def question(*, uses: int = 1, quorum: int = 1, age: int = 0, **changes: Any) -> Question:
    """Return a question of now, or of ``age`` microseconds ago."""
    now = microseconds(SystemClock().now()) - age
    asked = AskedFor(SETTLER, "", "https://ledger.example", ("refund",), None, "", False, "client_credentials", "d")  # noqa: FBT003
    need = Need("refund", "critical", ("spiffe://people.example/user/*",), quorum, 15 * MINUTES, uses)
    usual = Question(RandomIds().fresh_id(SystemClock().now()), asked, (need,), "", (), now, "", 60, 10)
    return replace(usual, **changes)


def begun(asked: Question) -> StepTaken:
    """Return the step that asks."""
    said = question_text(asked)
    return StepTaken(APPROVAL_REQUESTED, APPROVAL, asked.id, 1, asked.created, asked.asked.caller, said, asked.over_at)


def given(asked: Question, by: str = ALICE, number: int = 2) -> StepTaken:
    """Return the step that approves."""
    said = step_text(Step(StepKind.APPROVE, by, ("refund",)))
    return StepTaken(APPROVAL_GIVEN, APPROVAL, asked.id, number, asked.created + 1, by, said, asked.over_at)


def using(approved: Approved, **changes: Any) -> DecisionRecord:
    """Return a decision that uses an approval."""
    return record(caller=SETTLER, approval=approval_text(approved), **changes)
