"""The key cache at work: threads and event loops share it, and one thread fetches for all who wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from concurrent.futures import Future, wait
from datetime import timedelta
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple

from agent_client.clock import elapsed
from agent_client.verification.errors import KeysUnavailable, RejectionReason, TokenRejected
from agent_client.verification.key_cache import Advice, KeyCache
from agent_client.verification.key_set import read_key_set
from agent_client.verification.key_sources import FETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client.verification.algorithms import VerificationKey
    from agent_client.verification.key_cache import Finding
    from agent_client.verification.key_set import KeySetReading
    from agent_client.verification.key_sources import KeySource

WAIT_SECONDS = FETCH_SECONDS + 1
"""How long a caller waits for a fetch: as long as one may take, and a moment for the thread to come round."""
MAX_THREADS_FOR_NEW_KEYS = 16
"""Threads that may wait for a ``kid`` that is not known. Servers have 40 or so (Starlette's and gRPC's defaults), and
garbage must not hold them all while a fetch hangs. Event loops have no such bound: waiting costs them no thread."""
_logger = logging.getLogger("agent_client.verification")


class KeyStore:
    """Finds the issuer's keys by ``kid``. Thread-safe.

    A fetch runs in a thread of its own, which lives as long as it. In a process that was forked the keys are still
    there, and a fetch that was under way is started anew.

    Args:
        source: Where keys come from.
        max_stale: Seconds since their fetch after which keys are gone.
        monotonic: The clock that keys age by, in seconds; also while the host is suspended.
    """

    def __init__(self, source: KeySource, max_stale: float, *, monotonic: Callable[[], float] = elapsed) -> None:
        self._source = source
        self._monotonic = monotonic
        self._lock = Lock()  # over all that follows, but for `_cache.fresh`
        self._cache = KeyCache(max_stale)
        self._fetch: Future[None] = Future()
        self._fault: str | None = None
        self._left_out: tuple[str, ...] = ()
        self._closed = False
        self._seats = BoundedSemaphore(MAX_THREADS_FOR_NEW_KEYS)
        _stores.add(self)

    def get(self, key_id: str) -> VerificationKey:
        """Return a key; wait for a fetch only where nothing can be said without it.

        Raises:
            TokenRejected: KEY_UNKNOWN: the issuer has no such key.
            KeysUnavailable: The keys cannot be had now.
        """
        if key := self._cache.fresh(key_id, self._monotonic()):
            return key
        finding, fetch = self._look(key_id)
        if finding.advice is Advice.WAIT:
            wait([fetch], WAIT_SECONDS)
        elif finding.advice is Advice.WAIT_FOR_NEW_KEY:
            self._wait_seated(fetch)
        return self._outcome(key_id, finding)

    async def get_async(self, key_id: str) -> VerificationKey:
        """Do what :meth:`get` does, without blocking the event loop."""
        if key := self._cache.fresh(key_id, self._monotonic()):
            return key
        finding, fetch = self._look(key_id)
        if finding.advice in _WAITING:
            await ended(fetch)
        return self._outcome(key_id, finding)

    def warm_up(self) -> None:
        """Fetch the keys now, or join the fetch under way, and wait for it.

        Raises:
            KeysUnavailable: It failed. The next call that needs keys tries again.
        """
        with self._lock:
            self._check_open()
            if self._cache.fetching():
                self._start()
            fetch = self._fetch
        wait([fetch], WAIT_SECONDS)
        with self._lock:
            if not fetch.done() or self._fault is not None:
                raise self._unavailable()

    def close(self) -> None:
        """Forget the keys and fetch no more. A fetch under way ends by itself, and what it brings is dropped."""
        with self._lock:
            self._closed = True
            self._cache.forget()

    def after_fork(self) -> None:
        """Start afresh in a child process, which has neither the parent's threads nor whoever held the lock."""
        self._lock = Lock()
        self._seats = BoundedSemaphore(MAX_THREADS_FOR_NEW_KEYS)
        self._cache.abandoned()

    def _wait_seated(self, fetch: Future[None]) -> None:
        seats = self._seats
        if not seats.acquire(blocking=False):
            raise KeysUnavailable("too many callers with unknown keys wait already", retry_after=_SOON)
        try:
            wait([fetch], WAIT_SECONDS)
        finally:
            seats.release()

    def _look(self, key_id: str) -> tuple[Finding, Future[None]]:
        with self._lock:
            self._check_open()
            finding = self._cache.find(key_id, self._monotonic())
            if finding.fetch:
                self._start()
            return finding, self._fetch

    def _outcome(self, key_id: str, finding: Finding) -> VerificationKey:
        with self._lock:
            if finding.advice in _WAITING:
                finding = self._cache.find_again(key_id, self._monotonic())
            if finding.key is not None:
                return finding.key
            if finding.advice is Advice.UNKNOWN:
                raise TokenRejected(RejectionReason.KEY_UNKNOWN)
            raise self._unavailable()

    def _check_open(self) -> None:
        if self._closed:
            raise KeysUnavailable("this verifier was closed")

    def _unavailable(self) -> KeysUnavailable:
        seconds = self._cache.seconds_to_next_fetch(self._monotonic())
        return KeysUnavailable(
            f"the issuer's keys cannot be had: {self._fault or 'no answer yet'}",
            retry_after=timedelta(seconds=seconds) or _SOON,
        )

    def _start(self) -> None:
        """Start a fetch. The caller holds the lock."""
        self._fetch = Future()
        try:
            Thread(target=self._run, args=(self._fetch,), name="issuer-keys", daemon=True).start()
        except RuntimeError as error:  # there is no room for another thread
            self._take(str(error))
            self._fetch.set_result(None)

    def _run(self, fetch: Future[None]) -> None:
        answer = _answer(self._source)
        with self._lock:
            self._take(answer)
        fetch.set_result(None)

    def _take(self, answer: _Answer | str) -> None:
        """Take what a fetch brought, keys or why there are none. The caller holds the lock."""
        if isinstance(answer, str):
            self._cache.failed(self._monotonic())
            self._note(answer)
            return
        keys = {} if self._closed else answer.reading.keys
        self._cache.fetched(keys, answer.max_age, self._monotonic())
        self._note(None if answer.reading.keys else "its key set has no key that can be used")
        if answer.reading.faults != self._left_out:
            self._left_out = answer.reading.faults
            _logger.warning("keys of the issuer are left out: %s", "; ".join(self._left_out) or "none any more")

    def _note(self, fault: str | None) -> None:
        """Log what changed, once."""
        if fault is not None and fault != self._fault:
            _logger.warning("the issuer's keys cannot be had: %s", fault)
        elif fault is None and self._fault is not None:
            _logger.info("the issuer's keys are back")
        self._fault = fault


class _Answer(NamedTuple):
    """A key set, read, and the seconds it may be kept."""

    reading: KeySetReading
    max_age: float | None


def _answer(source: KeySource) -> _Answer | str:
    """Fetch and read; return why not otherwise."""
    try:
        fetched = source.fetch()
        max_age = None if fetched.max_age is None else fetched.max_age.total_seconds()
        return _Answer(read_key_set(fetched.jwks), max_age)
    except BaseException as error:  # noqa: BLE001 - whatever a source raises means: no keys now
        return str(error) or type(error).__name__


async def ended(fetch: Future[None]) -> None:
    """Wait for a fetch in an event loop, for :data:`WAIT_SECONDS` at most.

    Others wait for it too, so a cancellation does not reach it.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell(_: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(told.set)

    fetch.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_SECONDS):
            await told.wait()


def _after_fork() -> None:
    for store in _stores:
        store.after_fork()


_SOON = timedelta(seconds=1)
_WAITING = (Advice.WAIT, Advice.WAIT_FOR_NEW_KEY)
_stores: weakref.WeakSet[KeyStore] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
