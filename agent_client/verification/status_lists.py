"""Status lists at work: threads and event loops share them, and one thread fetches each for all who wait."""

from __future__ import annotations

import logging
import os
import ssl
import time
import weakref
from concurrent.futures import Future, wait
from datetime import timedelta
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING

from agent_client.clock import elapsed, utc_now
from agent_client.verification.algorithms import ALGORITHMS
from agent_client.verification.bounded_http import FetchFault, fetch
from agent_client.verification.errors import RejectionReason, RevocationsUnavailable, TokenRejected, VerificationError
from agent_client.verification.key_sources import FETCH_SECONDS
from agent_client.verification.key_store import WAIT_SECONDS, ended
from agent_client.verification.status_cache import Moment, StatusCache
from agent_client.verification.status_token import ListFault, ListRules, place_of, read_header_of, read_list

if TYPE_CHECKING:
    from collections.abc import Collection
    from os import PathLike

    from agent_client.verification.key_store import KeyStore
    from agent_client.verification.status_cache import Found
    from agent_client.verification.status_token import Place, ReadList
    from agent_client.verification.verified_token import VerifiedToken

MEDIA_TYPE = "application/statuslist+jwt"
MAX_FETCHES = 16
"""Threads that fetch at once."""
LEEWAY_SECONDS = 5.0
"""As that of tokens, unless it is set there."""
_VALID = 0
_SOON = timedelta(seconds=1)
_logger = logging.getLogger("agent_client.verification")


class StatusLists:
    """Looks in the issuer's status lists whether a token was revoked. Thread-safe, and for any number of event loops.

    For :class:`~agent_client.verification.verifier.TokenVerifier`, as its ``status``. A token that names no list is
    none of its business: policy says which do. A token that names one is taken only if the list says that it is valid;
    suspended, or whatever a later issuer writes, is not.

    A revocation is known here once the list was fetched again, after its ``ttl`` at the latest. While the issuer cannot
    be reached a list is used until its ``exp``, and then every token of it is refused, but for those that
    ``unknown_allowed`` lets pass. :class:`~agent_client.verification.revocations.RevocationStream` knows within a
    second, and needs an SVID.

    Args:
        ca_file: PEM of the authorities to trust; without it, the system's.
        ssl_context: How to speak TLS, in place of ``ca_file``.
        max_stale: How long a list is used after it was fetched, where that is sooner than its ``exp``.
        unknown_allowed: Scopes that harm little: a token with these alone is taken while its status cannot be known.

    Raises:
        ValueError: Both ways to say whom to trust are used, or ``max_stale`` is not positive.
        OSError: The file of authorities cannot be read.
    """

    def __init__(
        self,
        *,
        ca_file: str | PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_stale: timedelta | None = None,
        unknown_allowed: Collection[str] = (),
    ) -> None:
        if ca_file is not None and ssl_context is not None:
            raise ValueError("give ca_file or ssl_context, not both")
        if isinstance(unknown_allowed, str):
            raise TypeError("unknown_allowed are several names: write a list, not one string")
        if max_stale is not None and max_stale <= timedelta():
            raise ValueError("max_stale is positive")
        self._context = ssl_context or ssl.create_default_context(cafile=ca_file)
        self._unknown_allowed = frozenset(unknown_allowed)
        self._lock = Lock()  # over all that follows, but for `_cache.fresh`
        self._cache = StatusCache(None if max_stale is None else max_stale.total_seconds(), LEEWAY_SECONDS)
        self._fetches: dict[str, Future[None]] = {}
        self._seats = BoundedSemaphore(MAX_FETCHES)
        _all.add(self)

    def refuse_revoked(self, token: VerifiedToken, keys: KeyStore) -> None:
        """Return if a verified token was not revoked.

        Args:
            token: The token.
            keys: Those of its issuer.

        Raises:
            TokenRejected: REVOKED; STATUS_UNKNOWN, when its entry is not in the list; CLAIMS_MALFORMED.
            RevocationsUnavailable: There is no list to look in.
        """
        place = place_of(token)
        if place is None:
            return
        if fresh := self._cache.fresh(place.uri, elapsed()):
            self._judge(token, place, fresh)
            return
        found, fetching = self._look(place, token.issuer, keys)
        if found.wait:
            wait([fetching], WAIT_SECONDS)
        self._judge(token, place, self._outcome(place, found))

    async def refuse_revoked_async(self, token: VerifiedToken, keys: KeyStore) -> None:
        """Do what :meth:`refuse_revoked` does, without blocking the event loop."""
        place = place_of(token)
        if place is None:
            return
        if fresh := self._cache.fresh(place.uri, elapsed()):
            self._judge(token, place, fresh)
            return
        found, fetching = self._look(place, token.issuer, keys)
        if found.wait:
            await ended(fetching)
        self._judge(token, place, self._outcome(place, found))

    def after_fork(self) -> None:
        """Start afresh in a child process, which has neither the parent's threads nor whoever held the lock."""
        self._lock = Lock()
        self._seats = BoundedSemaphore(MAX_FETCHES)
        self._fetches = {}
        self._cache.abandoned()

    def _look(self, place: Place, issuer: str, keys: KeyStore) -> tuple[Found, Future[None]]:
        with self._lock:
            found = self._cache.find(place.uri, _now())
            if found.fetch:
                self._start(place.uri, issuer, keys)
            return found, self._fetches.get(place.uri, _NONE)

    def _outcome(self, place: Place, found: Found) -> ReadList | None:
        if not found.wait:
            return found.listed
        with self._lock:
            return self._cache.find_again(place.uri, _now())

    def _judge(self, token: VerifiedToken, place: Place, listed: ReadList | None) -> None:
        if listed is None:
            if token.scopes and self._unknown_allowed.issuperset(token.scopes):
                return
            fault = self._cache.fault(place.uri) or "no answer yet"
            raise RevocationsUnavailable(f"the status list {place.uri} cannot be had: {fault}", retry_after=_SOON)
        status = listed.status(place.idx)
        if status is None:
            raise TokenRejected(RejectionReason.STATUS_UNKNOWN)
        if status != _VALID:
            raise TokenRejected(RejectionReason.REVOKED)

    def _start(self, uri: str, issuer: str, keys: KeyStore) -> None:
        """Start a fetch. The caller holds the lock."""
        seats = self._seats
        if not seats.acquire(blocking=False):
            self._take(uri, "too many lists are fetched already")
            return
        self._fetches[uri] = Future()
        try:
            Thread(target=self._run, args=(uri, issuer, keys, seats), name="status-list", daemon=True).start()
        except RuntimeError as error:  # there is no room for another thread
            seats.release()
            self._take(uri, str(error))
            self._fetches.pop(uri).set_result(None)

    def _run(self, uri: str, issuer: str, keys: KeyStore, seats: BoundedSemaphore) -> None:
        answer = self._fetched(uri, issuer, keys)
        seats.release()
        with self._lock:
            self._take(uri, answer)
            fetching = self._fetches.pop(uri)
        fetching.set_result(None)

    def _fetched(self, uri: str, issuer: str, keys: KeyStore) -> ReadList | str:
        """Fetch and read; return why not otherwise."""
        try:
            answer = fetch(uri, MEDIA_TYPE, self._context, time.monotonic() + FETCH_SECONDS)
            if answer.media_type != MEDIA_TYPE:
                return f"{uri}: is no {MEDIA_TYPE}"
            unverified = read_header_of(answer.body.decode("ascii", "replace"), ALGORITHMS)
            key = keys.get(unverified.header.key_id)
            return read_list(unverified, key, uri, ListRules(issuer, ALGORITHMS, LEEWAY_SECONDS), _now().wall)
        except (FetchFault, ListFault, VerificationError) as fault:
            return str(fault)
        except BaseException as error:  # noqa: BLE001 - whatever it is means: no list now, and nobody may wait for ever
            return str(error) or type(error).__name__

    def _take(self, uri: str, answer: ReadList | str) -> None:
        """Take what a fetch brought, a list or why there is none. The caller holds the lock."""
        before = self._cache.fault(uri)
        if isinstance(answer, str):
            self._cache.failed(uri, answer, _now())
        else:
            self._cache.fetched(uri, answer, _now())
        fault = self._cache.fault(uri)
        if fault and fault != before:
            _logger.warning("the status list %s cannot be had: %s", uri, fault)
        elif before and not fault:
            _logger.info("the status list %s is back", uri)


def _now() -> Moment:
    return Moment(elapsed(), utc_now().timestamp())


def _after_fork() -> None:
    for lists in _all:
        lists.after_fork()


_NONE: Future[None] = Future()
_NONE.set_result(None)
_all: weakref.WeakSet[StatusLists] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
