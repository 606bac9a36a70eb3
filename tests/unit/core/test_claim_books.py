"""Each book takes the claims of its own kind, and together they know up to which one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.claim_books import ClaimBooks
from issuer.core.ledger_claims import ClaimRow, step_of_key
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class Keys:
    """The keys of one kind."""

    def __init__(self, of: str) -> None:
        self._of = of
        self.keys: list[str] = []

    def is_taken(self, key: str) -> bool:
        return key in self.keys

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:
        self.keys += [row.key for row in rows if step_of_key(self._of, row.key)]


def test_every_book_is_told_and_any_may_know() -> None:
    intents, approvals = Keys("intent"), Keys("approval")
    books = ClaimBooks(intents, approvals)
    now = SystemClock().now()
    books.learn([], now)
    assert books.version == 0
    books.learn([ClaimRow(4, "intent/a/1", 1, "", "", 9), ClaimRow(5, "approval/b/1", 1, "", "", 9)], now)
    assert books.version == 5
    assert (intents.keys, approvals.keys) == (["intent/a/1"], ["approval/b/1"])
    assert books.is_taken("intent/a/1")
    assert books.is_taken("approval/b/1")
    assert not books.is_taken("intent/a/2")
