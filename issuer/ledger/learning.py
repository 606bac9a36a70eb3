"""What a store holds that decisions are made from, taken from it in the order of its changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from issuer.core.instants import microseconds

if TYPE_CHECKING:
    from issuer.core.claim_books import ClaimBooks
    from issuer.ledger.engine import Engine
    from issuer.ledger.revocation_book import LedgerRevocations
    from issuer.ports import Clock

LEARNED_AT_ONCE: Final = 5_000
"""Revocations, or claims, in one answer of the store: at about 300 bytes each, 1.5 MB."""


class Learning:
    """Reads revocations and claims from a store.

    Args:
        engine: The store.
        revocations: Where what it holds of those is put.
        claims: Where its claims are put.
        clock: What is over by then is left out.
    """

    def __init__(self, engine: Engine, revocations: LedgerRevocations, claims: ClaimBooks, clock: Clock) -> None:
        self._engine = engine
        self._revocations = revocations
        self._claims = claims
        self._clock = clock
        self._learned = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since it was read last."""
        return time.monotonic() - self._learned

    async def learn(self) -> None:
        """Take what is not known here.

        Raises:
            LedgerFault: It cannot be read; the store has to be opened again.
        """
        while await self._some_revocations() >= LEARNED_AT_ONCE:
            pass
        while await self._some_claims() >= LEARNED_AT_ONCE:
            pass
        self._learned = time.monotonic()

    async def _some_revocations(self) -> int:
        now = self._clock.now()
        rows = await self._engine.revocations(self._revocations.version, int(now.timestamp()), LEARNED_AT_ONCE)
        self._revocations.learn(rows, now)
        return len(rows)

    async def _some_claims(self) -> int:
        now = self._clock.now()
        rows = await self._engine.claims(self._claims.version, microseconds(now), LEARNED_AT_ONCE)
        self._claims.learn(rows, now)
        return len(rows)
