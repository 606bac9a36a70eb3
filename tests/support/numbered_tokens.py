"""A source of tokens that needs no issuer: it gives the first until that is refused, then the second, and so on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from threading import Lock

from agent_client.access_token import AccessToken
from agent_client.answers import IssuedToken

SECRET = "c2VjcmV0LXRva2Vu"
"""In the text of every token, so that a leak shows."""

EXPIRES_AT = datetime(2030, 1, 1, tzinfo=UTC)


def token_text(number: int) -> str:
    return f"eyJhbGciOiJFUzI1NiJ9.{SECRET}.{number}"


def number_of(authorization: str) -> int:
    """Return the number of the token in a header."""
    return int(authorization.removeprefix(f"Bearer {token_text(0)[:-1]}"))


def issued(number: int) -> IssuedToken:
    return IssuedToken(
        token=AccessToken(token_text(number)),
        token_type="Bearer",
        expires_at=EXPIRES_AT,
        renew_at=EXPIRES_AT - timedelta(minutes=1),
        scopes=("ledger.read",),
        refused_scopes=(),
        token_id=f"token-{number}",
        decision_id=f"decision-{number}",
        application=None,
        issued_at=EXPIRES_AT - timedelta(minutes=5),
    )


class _Numbered:
    """What a test decides.

    Attributes:
        issued: How many tokens there have been.
        failure: What get() raises, if anything.
        patient: Keep a token that is refused, as one does who asked for it a moment ago.
    """

    def __init__(self) -> None:
        self.issued = 0
        self.failure: Exception | None = None
        self.patient = False
        self._current: IssuedToken | None = None
        self._lock = Lock()

    def invalidate(self, refused: IssuedToken) -> None:
        with self._lock:
            if self._current is refused and not self.patient:
                self._current = None

    def _get(self) -> IssuedToken:
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if self._current is None:
                self.issued += 1
                self._current = issued(self.issued)
            return self._current


class SyncNumberedTokens(_Numbered):
    """For threads."""

    def get(self) -> IssuedToken:
        return self._get()


class NumberedTokens(_Numbered):
    """For an event loop: a token comes from the loop that this was made in, after others had their turn."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    async def get(self) -> IssuedToken:
        assert asyncio.get_running_loop() is self._loop
        await asyncio.sleep(0)
        return self._get()
