"""What the ledger holds of claims, in memory: each book takes those of its own kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow


class ClaimBook(Protocol):
    """Keeps what came of the claims of one kind."""

    def is_taken(self, key: str) -> bool:
        """Return whether a claim of this kind is known to be taken; false for the key of another kind."""
        ...

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:
        """Take what was claimed, in the order of its versions; what is of another kind is passed over."""
        ...


class ClaimBooks:
    """All books of an issuer, and up to which claim they know.

    Args:
        books: One for each kind.
    """

    def __init__(self, *books: ClaimBook) -> None:
        self._books = books
        self.version = 0

    def is_taken(self, key: str) -> bool:
        """Return whether a claim is known to be taken."""
        return any(book.is_taken(key) for book in self._books)

    def learn(self, rows: Sequence[ClaimRow], now: datetime) -> None:
        """Take what was claimed, in the order of its versions."""
        if not rows:
            return
        self.version = rows[-1].version
        for book in self._books:
            book.learn(rows, now)
