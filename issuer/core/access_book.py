"""The windows of access, in memory: the fold of the steps that the ledger holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.core.access_text import opening_from_text, step_from_text
from issuer.core.access_window import AccessWindow, Status, apply, begin
from issuer.core.ledger_entries import ACCESS
from issuer.core.step_book import StepBook

if TYPE_CHECKING:
    from issuer.core.ledger_claims import ClaimRow


class AccessBook(StepBook[AccessWindow]):
    """The windows of access that can still matter."""

    kind = ACCESS

    @property
    def not_ended(self) -> list[AccessWindow]:
        """Those that are open, or whose end by time is not written yet, the oldest first."""
        return sorted((each for each in self._by_id.values() if each.ended is None), key=lambda each: each.id)

    def asked_before(self, caller: str, request: str) -> AccessWindow | None:
        """Return the window that a caller began by this request id; ``None`` for none, and for no id."""
        if not request:
            return None
        return next((each for each in self.of_caller(caller) if each.opening.request == request), None)

    def _begin(self, row: ClaimRow) -> AccessWindow:
        return begin(opening_from_text(row.detail))

    def _after(self, known: AccessWindow, row: ClaimRow, number: int) -> AccessWindow:
        after = apply(known, step_from_text(row.detail, row.actor), row.time)
        if isinstance(after, AccessWindow):
            return after
        # No issuer wrote that: nothing is issued under it any more.
        return replace(known, number=number, ended=known.ended or Status.REVOKED, ended_at=row.time)

    def _caller_of(self, thing: AccessWindow) -> str:
        return thing.opening.caller

    def _over_at(self, thing: AccessWindow) -> int:
        return thing.opening.over_at
