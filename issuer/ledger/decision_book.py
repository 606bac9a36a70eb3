"""Recorded decisions for a running issuer: read in threads, a few at a time, each for a bounded time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.errors import FieldViolation, InvalidTokenRequest, Reason, TemporarilyUnavailable
from issuer.core.patterns import PatternError, parse_pattern
from issuer.ledger.errors import LedgerFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.record import DecisionRecord
    from issuer.ledger.reading import LedgerReader, StoredDecision
    from issuer.ports import DecisionsWanted

T = TypeVar("T")
AT_ONCE: Final = 2
SECONDS: Final = 10.0
"""A query that takes longer is answered with a refusal; it ends by itself."""


class LedgerDecisionBook:
    """A :class:`~issuer.ports.DecisionBook` over a ledger.

    Args:
        reader: The ledger.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def newest(
        self, wanted: DecisionsWanted, limit: int, before: int | None
    ) -> Sequence[tuple[int, DecisionRecord]]:
        """Return the newest, the newest first."""
        _check(wanted)
        return _numbered(await self._read(lambda: self._reader.newest(wanted, limit, before)))

    async def after(self, wanted: DecisionsWanted, seq: int, limit: int) -> Sequence[tuple[int, DecisionRecord]]:
        """Return those after a ``seq``, the oldest first."""
        _check(wanted)
        return _numbered(await self._read(lambda: self._reader.after(wanted, seq, limit)))

    async def find(self, name: str) -> Sequence[tuple[int, DecisionRecord]]:
        """Return those with this id, or that led to the token with this ``jti``."""
        return _numbered(await self._read(lambda: self._reader.find(name)))

    async def last_seq(self) -> int:
        """Return the highest ``seq``."""
        return await self._read(self._reader.last_seq)

    async def _read(self, query: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(SECONDS), self._turns:
                return await asyncio.to_thread(query)
        except (LedgerFault, TimeoutError):
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "the ledger cannot be read") from None


def _check(wanted: DecisionsWanted) -> None:
    if wanted.caller is not None and "*" in wanted.caller:
        try:
            parse_pattern(wanted.caller)
        except PatternError as error:
            raise InvalidTokenRequest((FieldViolation("filter.caller", str(error)),)) from None


def _numbered(found: Sequence[StoredDecision]) -> list[tuple[int, DecisionRecord]]:
    return [(stored.seq, stored.record) for stored in found]
