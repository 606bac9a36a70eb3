"""The entries of status lists of the tokens that revocations killed, read from a ledger in a thread of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from sqlalchemy import or_, select

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.ledger.errors import LedgerFault
from issuer.ledger.living_tokens import CALLERS_AT_ONCE, conditions_of, living
from issuer.ledger.reading import recorded_tokens
from issuer.ledger.schema import decision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from issuer.core.revocation import Issued, Revocation
    from issuer.ledger.reading import LedgerReader

_LISTED: Final = decision.c.status.is_not(None)
_RESTS: Final = or_(decision.c.origin.is_not(None), decision.c.approval.is_not(None))
_RESTS_ON_TOKENS: Final = decision.c.origin.is_not(None)


class LedgerStatusMarks:
    """A :class:`~issuer.status_publishing.StatusMarks` over a ledger.

    Args:
        reader: The ledger.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        # A thread of its own, and no bound in time: after a restart there may be a million to read.
        self._thread = ThreadPoolExecutor(1, "status-marks")

    async def of_tokens(self, token_ids: Collection[str], now: int) -> set[int]:
        """Return the entries of the living tokens of these ids, and of those that rest on one of them."""
        return await self._read(lambda: entries_of_tokens(self._reader, frozenset(token_ids), now))

    async def of_revocation(self, revocation: Revocation, now: int) -> set[int]:
        """Return the entries of the living tokens that a revocation by attributes killed."""
        return await self._read(lambda: entries_of_revocation(self._reader, revocation, now))

    async def of_killed(self, kills: Callable[[Issued, int], bool], now: int) -> set[int]:
        """Return the entries of the living tokens that are dead, recorded as told under the ``seq`` that is told."""
        return await self._read(lambda: entries_of_killed(self._reader, kills, now))

    async def _read(self, query: Callable[[], set[int]]) -> set[int]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, query)
        except LedgerFault:
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "the ledger cannot be read") from None


def entries_of_tokens(reader: LedgerReader, token_ids: frozenset[str], now: int) -> set[int]:
    """Return the entries of the living tokens of these ids, and of those that rest on one of them.

    Args:
        reader: The ledger.
        token_ids: Any number of them.
        now: Unix seconds.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    found: set[int] = set()
    ordered = sorted(token_ids)
    with reader.connected() as connection:
        for start in range(0, len(ordered), CALLERS_AT_ONCE):
            some = decision.c.token_id.in_(ordered[start : start + CALLERS_AT_ONCE])
            found.update(connection.scalars(select(decision.c.status).where(*living(now), _LISTED, some)))
        for token in recorded_tokens(connection, [*living(now), _LISTED, _RESTS_ON_TOKENS]):
            if token.status is not None and any(each.token_id in token_ids for each in token.issued.ancestors):
                found.add(token.status)
    return found


def entries_of_revocation(reader: LedgerReader, revocation: Revocation, now: int) -> set[int]:
    """Return the entries of the living tokens that a revocation killed. Its key is not looked at.

    Args:
        reader: The ledger.
        revocation: By attributes.
        now: Unix seconds.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    found: set[int] = set()
    before = decision.c.seq <= revocation.decisions
    with reader.connected() as connection:
        for conditions in conditions_of(connection, revocation.selector, now):
            found.update(connection.scalars(select(decision.c.status).where(*conditions, _LISTED, before)))
        for token in recorded_tokens(connection, [*living(now), _LISTED, _RESTS, before]):
            issued = token.issued._replace(key=revocation.selector.key or "")
            if token.status is not None and revocation.kills(issued, token.seq):
                found.add(token.status)
    return found


def entries_of_killed(reader: LedgerReader, kills: Callable[[Issued, int], bool], now: int) -> set[int]:
    """Look at each living token that has an entry: for more revocations than are worth a query each.

    Args:
        reader: The ledger.
        kills: Whether a token, recorded under a ``seq``, is dead.
        now: Unix seconds.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        tokens = recorded_tokens(connection, [*living(now), _LISTED])
        return {token.status for token in tokens if token.status is not None and kills(token.issued, token.seq)}
