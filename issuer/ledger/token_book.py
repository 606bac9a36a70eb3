"""The ledger's tokens for a running issuer, read in threads of their own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.remembered import Remembered
from issuer.ledger.errors import LedgerFault
from issuer.ledger.living_tokens import hits, last_expiry, resting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.recorded_tokens import Hits, RecordedToken
    from issuer.core.revocation import Revocation, Selector
    from issuer.ledger.reading import LedgerReader

T = TypeVar("T")
AT_ONCE: Final = 2
SECONDS: Final = 10.0
"""A query that takes longer is answered with a refusal."""
REMEMBERED: Final = 10_000
"""Tokens that resource servers ask for again and again: about 10 MB."""
REMEMBERED_SECONDS: Final = 60.0
"""What is recorded of a token never changes, but it is pruned one day."""


class LedgerTokenBook:
    """A :class:`~issuer.ports.TokenBook` over a ledger.

    Args:
        reader: The ledger.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        # Threads of its own: nobody's report is in the way of a revocation.
        self._threads = ThreadPoolExecutor(AT_ONCE, "token-book")
        self._recorded: Remembered[str, RecordedToken] = Remembered(REMEMBERED, REMEMBERED_SECONDS)

    async def hits(self, selector: Selector, now: int, listed: int) -> Hits:
        """Return which living tokens a selector hits."""
        return await self._read(lambda: hits(self._reader, selector, now, listed))

    async def issued(self, token_id: str) -> RecordedToken | None:
        """Return what is recorded of a token; ``None`` when it is not in the ledger."""
        now = asyncio.get_running_loop().time()
        found = self._recorded.get(token_id, now)
        if found is None:
            found = await self._read(lambda: self._reader.recorded_token(token_id))
            if found is not None:
                self._recorded.put(token_id, found, now)
        return found

    async def resting(self, now: int, limit: int) -> Sequence[RecordedToken]:
        """Return living tokens that were made from others."""
        return await self._read(lambda: resting(self._reader, now, limit))

    async def last_expiry(self, before: int) -> int | None:
        """Return the latest ``exp`` of tokens that were decided before a moment, in microseconds; ``None`` for none."""
        return await self._read(lambda: last_expiry(self._reader, before))

    async def revoked_after(self, version: int) -> frozenset[str]:
        """Return the single tokens that were revoked after a version."""
        return await self._read(lambda: self._reader.revoked_after(version))

    async def revocations(self, limit: int, before: str | None) -> Sequence[Revocation]:
        """Return revocations, the newest first; those before an id where one is given."""
        return await self._read(lambda: self._reader.revocations(limit, before))

    async def _read(self, query: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, query)
        except (LedgerFault, TimeoutError):
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "the ledger cannot be read") from None
