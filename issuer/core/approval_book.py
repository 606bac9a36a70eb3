"""The requests for approval, in memory: the fold of the steps that the ledger holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.core.approval_state import ApprovalRequest, Status, apply, begin
from issuer.core.approval_text import question_from_text, step_from_text
from issuer.core.approvals import NOTHING_APPROVED, Approvals
from issuer.core.instants import microseconds
from issuer.core.ledger_claims import step_of_key
from issuer.core.ledger_entries import APPROVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow
    from issuer.core.spiffe_id import SpiffeId

_ASKED_AGAIN = frozenset({Status.CANCELLED, Status.EXPIRED, Status.USED_UP, Status.REVOKED})
"""After these the same may be asked again at once; a question that was denied is not, before its time is over."""


class ApprovalBook:
    """The requests for approval that can still matter. The ledger tells it every step, in the order it chose."""

    def __init__(self) -> None:
        self._by_id: dict[str, ApprovalRequest] = {}
        self._by_caller: dict[str, dict[str, ApprovalRequest]] = {}
        self._watchers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[ApprovalRequest]:
        """Give every request that can still matter, the newest first."""
        return iter(sorted(self._by_id.values(), key=lambda request: request.id, reverse=True))

    def get(self, request_id: str) -> ApprovalRequest | None:
        """Return a request; ``None`` when there is none, or it is long over."""
        return self._by_id.get(request_id)

    def of_caller(self, caller: str) -> list[ApprovalRequest]:
        """Return what a caller asked for and what can still matter."""
        return list(self._by_caller.get(caller, {}).values())

    def approved_for(self, caller: SpiffeId, now: datetime) -> Approvals:
        """Return what a decision about this caller may count on."""
        asked = self._by_caller.get(str(caller))
        if not asked:
            return NOTHING_APPROVED
        time = microseconds(now)
        return Approvals(approved for each in asked.values() if (approved := each.approved_at(time)) is not None)

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

    def is_taken(self, key: str) -> bool:
        """Return whether a step is known to be made."""
        step = step_of_key(APPROVAL, key)
        known = self._by_id.get(step[0]) if step else None
        return known is not None and step is not None and step[1] <= known.number

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever there is something new, until the returned function is called."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:
        """Take what was claimed, in the order of its versions."""
        news = False
        for row in rows:
            if (step := step_of_key(APPROVAL, row.key)) is not None:
                self._take(row, *step)
                news = True
        if not news:
            return
        self._forget(microseconds(now))
        for changed in list(self._watchers):
            changed()

    def _take(self, row: ClaimRow, request_id: str, number: int) -> None:
        if number == 1:
            self._put(begin(question_from_text(row.detail)))
            return
        if (known := self._by_id.get(request_id)) is None:  # long over
            return
        after = apply(known, step_from_text(row.detail, row.actor), row.time)
        if not isinstance(after, ApprovalRequest):  # no issuer wrote that: nothing is issued on it any more
            after = replace(known, number=number, status=Status.REVOKED, until=row.time, uses_left=0)
        self._put(after)

    def _put(self, request: ApprovalRequest) -> None:
        self._by_id[request.id] = request
        self._by_caller.setdefault(request.question.asked.caller, {})[request.id] = request

    def _forget(self, now: int) -> None:
        for request in [each for each in self._by_id.values() if now >= each.question.over_at]:
            del self._by_id[request.id]
            caller = request.question.asked.caller
            del self._by_caller[caller][request.id]
            if not self._by_caller[caller]:
                del self._by_caller[caller]
