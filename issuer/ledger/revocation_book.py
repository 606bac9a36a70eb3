"""What the ledger holds of revocations, in memory: all that can still hit something."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from issuer.core.instants import microseconds
from issuer.core.recorded_tokens import RevokedToken
from issuer.core.revocations import Revocations
from issuer.ledger.reading import revocation_from_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from issuer.core.revocation import Issued, Revocation
    from issuer.ledger.engine import RevocationRow

SWEPT_AFTER: Final = 10_000
"""Tokens whose time is over are looked for once so many were revoked since the last look."""


class LedgerRevocations:
    """A :class:`~issuer.ports.RevocationBook`, kept by a ledger's :class:`~issuer.ledger.group_commit.GroupCommit`.

    Single tokens are kept apart, and only what has to be known of them: there may be a million, and no decision depends
    on them.

    Args:
        key_id: The ``kid`` by which this issuer signs.
    """

    def __init__(self, key_id: str = "") -> None:
        self.version = 0
        self.epoch = 0
        self._key_id = key_id
        self._by_id: dict[str, Revocation] = {}
        self._tokens: set[str] = set()
        self._revoked_tokens: list[RevokedToken] = []  # by version
        self._new_tokens = 0
        self._stopping = Revocations(key_id=key_id)
        self._killing = self._stopping
        self._watchers: list[Callable[[], None]] = []

    def current(self) -> Revocations:
        """Return those that stop issuance, and the epoch."""
        return self._stopping

    @property
    def by_attributes(self) -> list[Revocation]:
        """Those that hit more than one token, the oldest first."""
        return sorted(self._by_id.values(), key=lambda revocation: revocation.id)

    def get(self, revocation_id: str) -> Revocation | None:
        """Return a revocation by attributes."""
        return self._by_id.get(revocation_id)

    def is_token_revoked(self, token_id: str) -> bool:
        """Return whether this very token was revoked, as long as it would be alive."""
        return token_id in self._tokens

    def killing(self, issued: Issued, seq: int) -> Revocation | None:
        """Return why a token that was recorded under ``seq`` is dead by its attributes; ``None`` if it lives."""
        return self._killing.killing(issued, seq)

    def made_since(self, issued: Issued, time: int) -> Revocation | None:
        """Return a revocation that hits a token and was made since a moment, lifted or not; ``None`` for none."""
        return self._killing.made_since(issued, time)

    def tokens_after(self, version: int) -> list[RevokedToken]:
        """Return the single tokens that were revoked after a version and may not have expired, in that order."""
        return self._revoked_tokens[bisect_right(self._revoked_tokens, version, key=lambda token: token.version) :]

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever there is something new, until the returned function is called."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def signs_by(self, key_id: str) -> None:
        """Judge what would be issued as signed by this key from now on."""
        self._key_id = key_id
        self._index()

    def learn(self, rows: Iterable[RevocationRow], now: datetime) -> None:
        """Take what changed, in the order of its versions."""
        news = [revocation_from_row(row) for row in rows]
        if not news:
            return
        for revocation in news:
            self.version = revocation.version
            if (token := revocation.selector.token) is not None:
                self._tokens.add(token)
                audience = revocation.selector.audience or ""
                self._revoked_tokens.append(
                    RevokedToken(revocation.version, token, revocation.expires_at or 0, audience)
                )
                self._new_tokens += 1
            else:
                self._by_id[revocation.id] = revocation
                self.epoch = revocation.version
        self._forget(microseconds(now))
        if self.epoch != self._stopping.epoch:
            self._index()
        for changed in list(self._watchers):
            changed()

    def _index(self) -> None:
        known = self._by_id.values()
        stops = (each for each in known if each.stops_issuance and each.lifted is None)
        self._stopping = Revocations(stops, epoch=self.epoch, key_id=self._key_id)
        self._killing = Revocations(known, epoch=self.epoch, key_id=self._key_id)

    def _forget(self, now: int) -> None:
        for revocation in [each for each in self._by_id.values() if not each.matters(now)]:
            del self._by_id[revocation.id]
        if self._new_tokens >= SWEPT_AFTER:
            self._new_tokens = 0
            self._revoked_tokens = [each for each in self._revoked_tokens if each.expires_at * 1_000_000 > now]
            self._tokens = {each.token_id for each in self._revoked_tokens}
