"""Follows one source of tokens in a thread, so that the command's own thread can wait for signals as well."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_client.clock import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client import IssuedToken, SyncTokenSource

LOOK_EVERY_SECONDS = 1.0
"""How soon a token that ended without a successor is noticed."""
AGAIN_SECONDS = 5.0
"""Between two questions after the last token has ended; the source has its own, longer, pauses after a denial."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no token: never was one, or the last one has ended.

    Attributes:
        cause: Why the issuer gives none.
    """

    cause: Exception


class Follower:
    """Tells every token of a source, the first one at once.

    After the first token, a refusal is not the end: policy and networks change, and the source goes on asking.

    Args:
        source: Where tokens come from; made with ``keep_fresh``.
        seconds: How long to try for the first.
        post: Called, in the thread of this follower, with every token, and with :class:`Lost`: when there is no first
            one, which ends the following, and later when it was asked for in vain, once for each reason.
        once: Tell the first token alone.
    """

    def __init__(
        self,
        source: SyncTokenSource,
        seconds: float,
        post: Callable[[IssuedToken | Lost], None],
        *,
        once: bool = False,
    ) -> None:
        self._source = source
        self._once = once
        self._seconds = seconds
        self._post = post
        self._closing = threading.Event()
        self._lost: tuple[type[Exception], str] | None = None
        self._ends_at = 0.0
        self._thread = threading.Thread(target=self._follow, name="token-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow. Call once."""
        self._thread.start()

    def close(self) -> None:
        """Tell nothing more. What is waited for in the thread is not waited for here."""
        self._closing.set()

    def _follow(self) -> None:
        try:
            known = self._source.get(timeout=self._seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the command's thread tells it
            self._tell(Lost(error))
            return
        self._take(known)
        while not self._once and not self._closing.is_set():
            known = self._next(known)

    def _next(self, known: IssuedToken) -> IssuedToken:
        """Return the next token, or the known one when there was no next for a while."""
        try:
            found = self._source.wait_for_next(known, LOOK_EVERY_SECONDS)
            if found is None and elapsed() >= self._ends_at:
                found = self._source.get(timeout=self._seconds)  # raises why there is none
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(error)
            self._closing.wait(AGAIN_SECONDS)
            return known
        if found is None or found is known:
            return known
        self._lost = None
        self._take(found)
        return found

    def _take(self, issued: IssuedToken) -> None:
        # By the time that goes by: this host's time of day may be another than the issuer's.
        self._ends_at = elapsed() + (issued.expires_at - issued.issued_at).total_seconds()
        self._tell(issued)

    def _lose(self, error: Exception) -> None:
        # Without the ids of decision and request, which differ with each attempt.
        reason = type(error), str(getattr(error, "message", error))
        if reason != self._lost:
            self._lost = reason
            self._tell(Lost(error))

    def _tell(self, news: IssuedToken | Lost) -> None:
        if not self._closing.is_set():
            self._post(news)
