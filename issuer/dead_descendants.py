"""Tokens that died because of one above them, found for those who see only what a token says.

Which tokens are above one is in the record alone, so these are told to resource servers one by one. They are few: only
tokens that were made from others, and that have not expired, are looked at.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.errors import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.recorded_tokens import RecordedToken
    from issuer.ports import Clock, RevocationBook, TokenBook

MAX_LOOKED_AT: Final = 100_000
"""Living tokens that were made from others; with more, it is not known which of them are dead."""
SETTLED_SECONDS: Final = 5.0
"""So long after a revocation a token can be recorded that was decided before it (``[ledger] max_wait`` is 2 s)."""


class DeadDescendant(NamedTuple):
    """A token that died with one above it: a number that only grows, as of which version, ``jti``, ``aud``, ``exp``."""

    number: int
    version: int
    token_id: str
    audience: str
    expires_at: int


class DeadDescendants:
    """Finds them, once for all streams.

    Args:
        revocations: Those that hold.
        tokens: What the ledger knows of tokens.
        clock: Which tokens have expired.
    """

    def __init__(self, revocations: RevocationBook, tokens: TokenBook, clock: Clock) -> None:
        self._revocations = revocations
        self._tokens = tokens
        self._clock = clock
        self._looking = asyncio.Lock()
        self._found: list[DeadDescendant] = []
        self._known: set[str] = set()
        self._next = 0
        self._version = -1
        self._settles_at = float("-inf")
        self._looked_at = float("-inf")
        self._complete = False

    async def look(self) -> bool:
        """Look for those that died meanwhile; return whether all are known."""
        async with self._looking:
            now, version = asyncio.get_running_loop().time(), self._revocations.version
            if version != self._version:
                self._version, self._settles_at, self._complete = version, now + SETTLED_SECONDS, False
            if not self._complete or self._looked_at < self._settles_at <= now:
                self._looked_at = now
                self._complete = await self._look(version)
            return self._complete

    def from_number(self, number: int) -> Sequence[DeadDescendant]:
        """Return those that were found with this number or later."""
        return self._found[bisect_left(self._found, number, key=lambda each: each.number) :]

    def first_of(self, version: int) -> int:
        """Return the number from which on those died that a stream may not know that was told this version."""
        return next((each.number for each in self._found if each.version >= version), self._next)

    async def _look(self, version: int) -> bool:
        now = int(self._clock.now().timestamp())
        try:
            resting = await self._tokens.resting(now, MAX_LOOKED_AT + 1)
        except TemporarilyUnavailable:
            return False
        self._forget(now)
        dead = dead_by(self._revocations)
        for token in resting:
            token_id = token.issued.token_id
            if token_id not in self._known and dead(token):
                self._known.add(token_id)
                self._found.append(
                    DeadDescendant(self._next, version, token_id, token.issued.audience, token.expires_at)
                )
                self._next += 1
        return len(resting) <= MAX_LOOKED_AT

    def _forget(self, now: int) -> None:
        self._found = [each for each in self._found if each.expires_at > now]
        self._known = {each.token_id for each in self._found}


def dead_by(revocations: RevocationBook) -> Callable[[RecordedToken], bool]:
    """Return what tells whether a recorded token is dead by revocations, its own single one aside."""

    def dead(token: RecordedToken) -> bool:
        above = token.issued.ancestors
        return (
            any(revocations.is_token_revoked(each.token_id) for each in above)
            or revocations.killing(token.issued, token.seq) is not None
        )

    return dead
