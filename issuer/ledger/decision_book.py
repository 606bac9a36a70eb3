"""Recorded decisions for a running issuer: read in threads, a few at a time, each for a bounded time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.errors import FieldViolation, InvalidTokenRequest, Reason, TemporarilyUnavailable
from issuer.core.identity_use import shared_identities
from issuer.core.patterns import PatternError, parse_pattern
from issuer.ledger import reports
from issuer.ledger.errors import LedgerFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.identity_use import SharedIdentity
    from issuer.core.policy import Policy
    from issuer.core.record import DecisionRecord
    from issuer.core.reports import Denials, ExceptionUse, Granted, Top
    from issuer.ledger.reading import LedgerReader, StoredDecision
    from issuer.ports import DecisionsWanted

T = TypeVar("T")
AT_ONCE: Final = 2
SECONDS: Final = 10.0
"""A query that takes longer is answered with a refusal; one that waits for its turn is given up, another one ends."""


class LedgerDecisionBook:
    """A :class:`~issuer.ports.DecisionBook` and :class:`~issuer.ports.ReportBook` over a ledger.

    Args:
        reader: The ledger.
        kept_policy: Reads a policy that it keeps.
    """

    def __init__(self, reader: LedgerReader, kept_policy: Callable[[str], Policy | None]) -> None:
        self._reader = reader
        self._kept_policy = kept_policy
        # Threads of its own: those that read the policy's files never wait for somebody's report.
        self._threads = ThreadPoolExecutor(AT_ONCE, "decision-book")

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

    async def denials(self, since: int, until: int, limit: int) -> Sequence[Denials]:
        """Return refusals by caller, audience and reason, the most frequent first."""
        return await self._read(lambda: reports.denials(self._reader, since=since, until=until, limit=limit))

    async def policy(self, digest: str) -> Policy | None:
        """Return a policy that decided; ``None`` when it is not kept."""
        return await self._read(lambda: self._kept_policy(digest))

    async def shared_identities(self, since: int, until: int, min_score: float) -> Sequence[SharedIdentity]:
        """Return identities that seem to be shared, the highest score first."""
        return await self._read(
            lambda: shared_identities(reports.uses(self._reader, since=since, until=until), min_score)
        )

    async def granted(self, since: int, until: int) -> Sequence[Granted]:
        """Return which grants gave which scopes."""
        return await self._read(lambda: reports.granted(self._reader, since=since, until=until))

    async def oldest(self) -> int | None:
        """Return when the oldest decision was made; ``None`` when there is none."""
        return await self._read(lambda: reports.oldest(self._reader))

    async def top(self, since: int, until: int, now: int, limit: int) -> Top:
        """Return who asks most, for what, and what is alive."""
        return await self._read(lambda: reports.top(self._reader, since=since, until=until, now=now, limit=limit))

    async def exception_uses(self, since: int, until: int) -> Sequence[ExceptionUse]:
        """Return how exceptions were used."""
        return await self._read(lambda: reports.exception_uses(self._reader, since=since, until=until))

    async def _read(self, query: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, query)
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
