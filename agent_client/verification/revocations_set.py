"""The tokens that are known to be dead: exactly those that the issuer told, until they expire. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.verification.revocations_kinds import DeadKinds

if TYPE_CHECKING:
    from agent_client.verification.revocations_news import RevocationNews
    from agent_client.verification.verified_token import VerifiedToken

_BUCKET_SECONDS = 60
"""Ids are forgotten by the minute: one list for each in which some of them expire."""
LEEWAY_SECONDS = 60
"""A verifier may take a token so long after its ``exp`` (``MAX_LEEWAY``): it is remembered as dead for longer."""
_AT_ONCE = 1_000
"""Ids that are dropped in one step. It holds the interpreter's lock, for about 50 us."""


class TooManyRevoked(Exception):
    """More is revoked than may be kept."""

    def __init__(self) -> None:
        super().__init__("more tokens are revoked than are kept here (max_kept)")


class RevokedTokens:
    """A set of dead tokens. For one thread that changes it, and any number that look.

    An id takes about 170 bytes.

    Args:
        most: How many ids and kinds are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: set[str] = set()
        self._expiring: dict[int, list[str]] = {}
        self._kinds = DeadKinds()

    def __len__(self) -> int:
        return len(self._ids) + len(self._kinds)

    def has(self, token: VerifiedToken, key_id: str) -> bool:
        """Return whether a token is dead. Safe in any thread."""
        return token.token_id in self._ids or (self._kinds.are_any and self._kinds.hits(token, key_id))

    def learn(self, news: RevocationNews) -> None:
        """Take in what died.

        Raises:
            TooManyRevoked: There is no room for it; a part of it may be taken in.
        """
        for dead in news.ids:
            if len(self) + len(dead.token_ids) > self._most:
                raise TooManyRevoked
            for token_id, end in zip(dead.token_ids, dead.ends, strict=True):
                if token_id not in self._ids:
                    self._ids.add(token_id)
                    self._expiring.setdefault(end // _BUCKET_SECONDS, []).append(token_id)
        for kind in news.kinds:
            if len(self) >= self._most:
                raise TooManyRevoked
            self._kinds.put(kind)

    def forget(self, now: float) -> None:
        """Drop what is over: tokens that nobody takes any more.

        Args:
            now: Unix seconds.
        """
        over = now - LEEWAY_SECONDS
        for bucket in [bucket for bucket in self._expiring if (bucket + 1) * _BUCKET_SECONDS <= over]:
            expired = self._expiring.pop(bucket)
            for start in range(0, len(expired), _AT_ONCE):
                self._ids.difference_update(expired[start : start + _AT_ONCE])
        self._kinds.forget(over)
