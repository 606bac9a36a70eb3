"""The requests for approval, in memory: the fold of the steps that the ledger holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.core.approval_state import ApprovalRequest, Status, apply, begin
from issuer.core.approval_text import question_from_text, step_from_text
from issuer.core.approvals import NOTHING_APPROVED, Approvals
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import APPROVAL
from issuer.core.step_book import StepBook

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow
    from issuer.core.spiffe_id import SpiffeId

_ASKED_AGAIN = frozenset({Status.CANCELLED, Status.EXPIRED, Status.USED_UP, Status.REVOKED})
"""After these the same may be asked again at once; a question that was denied is not, before its time is over."""


class ApprovalBook(StepBook[ApprovalRequest]):
    """The requests for approval that can still matter."""

    kind = APPROVAL

    def approved_for(self, caller: SpiffeId, now: datetime) -> Approvals:
        """Return what a decision about this caller may count on."""
        asked = self.of_caller(str(caller))
        if not asked:
            return NOTHING_APPROVED
        time = microseconds(now)
        return Approvals(approved for each in asked if (approved := each.approved_at(time)) is not None)

    def last_like(self, caller: str, digest: str) -> str:
        """Return the id of the last request for exactly this; empty for none."""
        like = (each.id for each in self.of_caller(caller) if each.question.asked.digest == digest)
        return max(like, default="")

    def same(self, caller: str, digest: str, now: int) -> ApprovalRequest | None:
        """Return the request for exactly this that is open, or was denied and whose time is not over."""
        for each in self.of_caller(caller):
            if each.question.asked.digest != digest or each.status_at(now) in _ASKED_AGAIN:
                continue
            if each.status is not Status.DENIED or now < each.question.pending_until:
                return each
        return None

    def _begin(self, row: ClaimRow) -> ApprovalRequest:
        return begin(question_from_text(row.detail))

    def _after(self, known: ApprovalRequest, row: ClaimRow, number: int) -> ApprovalRequest:
        after = apply(known, step_from_text(row.detail, row.actor), row.time)
        if isinstance(after, ApprovalRequest):
            return after
        # No issuer wrote that: nothing is issued on it any more.
        return replace(known, number=number, status=Status.REVOKED, until=row.time, uses_left=0)

    def _caller_of(self, thing: ApprovalRequest) -> str:
        return thing.question.asked.caller

    def _over_at(self, thing: ApprovalRequest) -> int:
        return thing.question.over_at
