"""Which tokens are revoked, kept up to date in a thread: what lets :class:`TokenVerifier` refuse them within a second.

::

    from agent_client import SyncIssuerClient
    from agent_client.verification import RevocationStream, TokenVerifier

    client = SyncIssuerClient()
    revocations = RevocationStream(client, unknown_allowed=["ledger.read"])
    verifier = TokenVerifier("https://issuer.prod.example", "https://ledger.prod.example", revocations=revocations)
    revocations.wait(10)     # before the server is ready

The server needs an SVID, and policy has to name it in the audience's ``servers``.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Self

from agent_client import forks
from agent_client.clock import elapsed
from agent_client.errors import IssuerTimedOut
from agent_client.following import Replaced
from agent_client.verification.revocations_keeping import DEFAULT_MAX_KEPT, DEFAULT_MAX_SILENCE, RevocationKeeper
from agent_client.verification.revocations_news import watch_revocations

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from agent_client.following import Following
    from agent_client.sync import SyncIssuerClient
    from agent_client.verification.revocations_news import RevocationNews
    from agent_client.verification.verified_token import VerifiedToken

_LOOK_SECONDS = 1.0
"""How often it is looked whether the stream is quiet."""
_PARKING_SECONDS = 1.0
"""How long a fork waits at most for the stream to end; a cancelled one does within milliseconds."""
_logger = logging.getLogger("agent_client.verification")


class RevocationStream:
    """Follows what the issuer revokes, and holds it against tokens. Thread-safe; for any number of verifiers.

    It begins at the first token, at :meth:`start` or :meth:`wait`, and goes on until :meth:`close`: over restarts of
    the issuer, from one of its addresses to another, and over rotations of this server's SVID. A stream goes on where
    the last one ended. What is known in between and at the start, and which tokens are taken then, is told in
    :mod:`agent_client.verification.revocations_state`. Requests that are being served already are not broken off.

    In the child of a fork it keeps what is known, and begins a stream of its own, if its client may be used there.

    Args:
        client: Asks the issuer. It stays the caller's to close, after this.
        max_silence: How long nothing may be heard of the issuer until tokens are refused: 5 seconds to an hour.
        unknown_allowed: Scopes for which that does not matter: a token that has no others is taken then. Name those by
            which little harm is done; all that the API has, for one that rather stays open.
        max_kept: How many revoked tokens are kept at most. With more, it is as if nothing were heard.

    Raises:
        ValueError: An argument is out of its bounds.
    """

    def __init__(
        self,
        client: SyncIssuerClient,
        *,
        max_silence: timedelta = DEFAULT_MAX_SILENCE,
        unknown_allowed: Collection[str] = (),
        max_kept: int = DEFAULT_MAX_KEPT,
    ) -> None:
        self._client = client
        self._keeper = RevocationKeeper(max_silence, unknown_allowed, max_kept)
        self._started = False
        self._closed = False
        self._reset()
        forks.call_in_child(self._begin_anew)

    def _reset(self) -> None:
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._following: Following[RevocationNews] | None = None
        self._heard_at = 0.0
        self._parked = 0
        self._dialling = False
        self._started = False

    @property
    def is_current(self) -> bool:
        """Whether all that is revoked is known now: what a readiness check can tell."""
        return self._keeper.is_current

    @property
    def kept(self) -> int:
        """How many revoked tokens, and kinds of token, are kept."""
        return self._keeper.kept

    def refuse_revoked(self, token: VerifiedToken, key_id: str) -> None:
        """Return if a token may be taken; what :class:`TokenVerifier` asks.

        Raises:
            TokenRejected: REVOKED.
            RevocationsUnavailable: It is not known, and has to be.
        """
        if not self._started:
            self.start()
        self._keeper.refuse_revoked(token, key_id)

    def start(self) -> None:
        """Begin to follow, unless that was done. Does not wait."""
        with self._news:
            if self._started or self._closed:
                return
            self._started = True
            self._threads = [
                threading.Thread(target=work, name=f"issuer-{name}", daemon=True)
                for work, name in ((self._follow, "revocations"), (self._watch, "revocations-watch"))
            ]
            forks.used(self)
            for thread in self._threads:
                thread.start()

    def wait(self, timeout: float) -> bool:
        """Begin to follow, and wait until all that is revoked is known: at the start of a server, before it is ready.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it is known.
        """
        self.start()
        with self._news:
            return self._news.wait_for(lambda: self.is_current or self._closed, timeout) and self.is_current

    def close(self) -> None:
        """Follow no more. What is known gets old, and tokens are refused then. Closing twice does nothing."""
        with self._news:
            threads, self._threads = self._threads, []
            self._closed = True
            self._closing.set()
            self._cancel()
            self._news.notify_all()
        for thread in threads:
            thread.join()
        if threads:
            forks.unused(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def park(self) -> None:
        """Leave gRPC alone until :meth:`resume`, for a fork."""
        with self._news:
            self._parked += 1
            self._cancel()
            self._news.wait_for(lambda: not self._dialling, _PARKING_SECONDS)

    def resume(self) -> None:
        """Follow again, after :meth:`park`."""
        with self._news:
            self._parked -= 1
            self._news.notify_all()

    def _begin_anew(self) -> None:
        """Be as if not started, in the child of a fork, which has none of the threads."""
        self._reset()
        if self._closed:
            self._closing.set()

    def _follow(self) -> None:
        while self._may_dial():
            error = self._follow_one()
            with self._news:
                self._following, self._dialling = None, False
                self._news.notify_all()
                wanted = self._parked > 0 or self._closing.is_set()
            if not wanted:
                self._closing.wait(self._keeper.pause_after(error))

    def _may_dial(self) -> bool:
        """Wait while parked; return whether to go on."""
        with self._news:
            self._news.wait_for(lambda: self._closing.is_set() or not self._parked)
            self._dialling = not self._closing.is_set()
            if self._dialling:
                self._following = self._client.follow(watch_revocations(self._keeper.position))
                self._heard_at = elapsed()
            return self._dialling

    def _follow_one(self) -> Exception | None:
        """Follow one stream to its end; return what ended it."""
        assert self._following is not None  # noqa: S101 - set by `_may_dial`
        try:
            for news in self._following:
                self._heard_at = elapsed()
                self._keeper.take(news)
                with self._news:
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - the last resort: a stream that ended here for good would look alive
            return error.with_traceback(None)
        return None

    def _watch(self) -> None:
        """End a stream that is quiet, or of an SVID that was replaced; log when what is known gets old."""
        while not self._closing.wait(_LOOK_SECONDS):
            self._keeper.look()
            with self._news:
                following = self._following
                if following is not None and following.is_outdated:
                    following.cancel(Replaced())
                elif following is not None and elapsed() - self._heard_at > self._keeper.quiet:
                    following.cancel(IssuerTimedOut("the stream of revocations was quiet for too long"))

    def _cancel(self) -> None:
        if self._following is not None:
            self._following.cancel(Replaced())
