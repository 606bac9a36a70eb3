"""The token cache, driven by threads: askers make the calls that they need, a few daemons make the renewals."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from agent_client.answers import IssuedToken
from agent_client.clock import elapsed
from agent_client.errors import ClientClosed, IssuerTimedOut, IssuerUnavailable
from agent_client.tokens.cache import NEVER, TokenCache
from agent_client.tokens.entry import Entry, again

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity
    from agent_client.tokens.entry import Arrival

RENEWALS_AT_ONCE = 8
"""Calls in the background at the same moment: enough for hundreds of renewals a second, and no burst for the issuer."""
LONGEST_NAP = 60.0
"""Seconds: a thread's wait does not count while the host is suspended, the tokens' age does."""
_logger = logging.getLogger("agent_client.tokens")


class _Flight:
    """One call. Whoever waits reads ``outcome`` once ``landed`` is set; ``None`` there means: ask anew."""

    def __init__(self) -> None:
        self.taken_off = False
        self.landed = threading.Event()
        self.outcome: IssuedToken | Exception | None = None


class SyncTokenSource:
    """One token, always good, as far as the issuer lets it be. Made by ``SyncIssuerClient.tokens_for``. Thread-safe.

    Attributes:
        request: What it asks for.
    """

    def __init__(self, tokens: SyncTokens, request: TokenRequest, *, keep_fresh: bool) -> None:
        self.request = request
        self._tokens = tokens
        self._entry = tokens.entry(request)
        if keep_fresh:
            self._entry.keepers.add(self)

    def get(self, *, timeout: float | None = None) -> IssuedToken:
        """Return a token that is good now.

        While there is one, it is returned at once, whatever the issuer does; it is renewed in the background. Otherwise
        the issuer is asked, once for all who wait. What it refused is refused again for some seconds without asking,
        and longer where it said when to come back.

        Args:
            timeout: Seconds to wait where the issuer has to be asked; ``None`` for the client's.

        Raises:
            IssuerRequestError, WorkloadApiError, ClientClosed: As ``issue_token`` does.
        """
        entry = self._entry
        # In this order: what is good now is read after the time that some token was good until.
        if elapsed() < entry.fresh_until and (good := entry.good) is not None:
            entry.used = True
            return good
        return self._tokens.obtain(entry, timeout)

    def invalidate(self, refused: IssuedToken) -> None:
        """Tell that a resource server refused this token: the next :meth:`get` asks for another.

        Nothing happens where another has taken its place already, or where the one before was refused some seconds ago.
        """
        self._tokens.invalidate(self._entry, refused)

    def wait_for_next(self, known: IssuedToken, timeout: float) -> IssuedToken | None:
        """Return a good token other than ``known`` as soon as there is one; ``None`` after ``timeout`` seconds.

        The timeout may be infinite. It asks for nothing itself: renewal does, with ``keep_fresh`` or while somebody
        uses the token.

        Raises:
            ClientClosed: The client is closed, or is while this waits.
        """
        return self._tokens.wait_for_next(self._entry, known, timeout)

    def __repr__(self) -> str:
        return f"SyncTokenSource({self.request!r})"


class SyncTokens:
    """All sources of one client. Thread-safe.

    Args:
        issue: Asks the issuer, within so many seconds.
        seconds: Gives the seconds that a call may take, from those that its caller named.
        caller: Tells who this workload is now; ``None``: nobody. Must not block.
    """

    def __init__(
        self,
        issue: Callable[[TokenRequest, float], Arrival],
        seconds: Callable[[float | None], float],
        caller: Callable[[], CallerIdentity | None],
    ) -> None:
        self._issue = issue
        self._seconds = seconds
        self._caller = caller
        self._cache: TokenCache[_Flight] = TokenCache()
        self._reset_threads()

    def _reset_threads(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._plans = threading.Condition(self._lock)
        self._renewers = self._idle = 0
        self._closed = False

    def source(self, request: TokenRequest, *, keep_fresh: bool) -> SyncTokenSource:
        """Return a source of what the request asks for.

        Raises:
            ValueError: The request is ``validate_only``.
        """
        return SyncTokenSource(self, request, keep_fresh=keep_fresh)

    def entry(self, request: TokenRequest) -> Entry[_Flight]:
        """Return what is known of a request."""
        with self._lock:
            return self._cache.entry(request)

    def obtain(self, entry: Entry[_Flight], timeout: float | None) -> IssuedToken:
        """Return a good token, by asking for one or by waiting for who does; see :meth:`SyncTokenSource.get`."""
        end = time.monotonic() + self._seconds(timeout)
        while True:
            own = _Flight()
            try:
                flight = self._board(entry, own)
                if isinstance(flight, IssuedToken):
                    return flight
                if flight is own:
                    self._fly(entry, own, end - time.monotonic())
                elif not flight.landed.wait(end - time.monotonic()):
                    raise IssuerTimedOut("no answer from the issuer before the deadline")
            finally:
                if own.taken_off and not own.landed.is_set():  # a KeyboardInterrupt may strike anywhere
                    self._land(entry, own)
            outcome = flight.outcome
            if isinstance(outcome, IssuedToken):
                return outcome
            if outcome is not None and flight is own:
                raise outcome
            # Who made the call may have had less time than is left here; and what it brought may be another's by now.
            if outcome is not None and not isinstance(outcome, IssuerUnavailable):
                raise again(outcome)
            if time.monotonic() >= end:
                raise again(outcome) if outcome else IssuerTimedOut("no token that can be used before the deadline")

    def invalidate(self, entry: Entry[_Flight], refused: IssuedToken) -> None:
        """See :meth:`SyncTokenSource.invalidate`."""
        with self._lock:
            self._cache.invalidate(entry, refused, elapsed())

    def wait_for_next(self, entry: Entry[_Flight], known: IssuedToken, timeout: float) -> IssuedToken | None:
        """See :meth:`SyncTokenSource.wait_for_next`."""
        with self._news:
            seconds = min(timeout, threading.TIMEOUT_MAX)  # 292 years; more overflows
            self._news.wait_for(lambda: self._closed or entry.good_other_than(known, elapsed()), seconds)
            self._refuse_closed()
            return entry.good_other_than(known, elapsed())

    def caller_changed(self) -> None:
        """Tell that this workload may be another from now on."""
        with self._lock:
            self._cache.caller_changed(self._caller(), elapsed())
            self._see_to_renewals()

    def access_ended(self, access: str) -> None:
        """Hand out no token of a window of access any more."""
        with self._lock:
            self._cache.access_ended(access)

    def close(self) -> None:
        """End the renewals, and the wait of all who wait. Calls under way end with the client's channels."""
        with self._lock:
            self._closed = True
            for flight in self._cache.flights():
                flight.landed.set()
            self._cache.forget()
            self._news.notify_all()
            self._plans.notify_all()

    def people_approved(self) -> None:
        """Tell that people approved something: who was refused for want of that may ask at once."""
        with self._lock:
            self._cache.people_approved()

    def forget(self) -> None:
        """Begin anew, in the child of a fork: its threads are gone, and its identity may be another."""
        self._reset_threads()
        self._cache.forget()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this client is closed")

    def _board(self, entry: Entry[_Flight], own: _Flight) -> IssuedToken | _Flight:
        """Return the token, or the call that will bring it: ``own`` where this thread is the one to make it."""
        with self._lock:
            self._refuse_closed()
            answer = self._cache.look(entry, elapsed())
            if answer is None:
                own.taken_off = True
                self._cache.take_off(entry, own)
                return own
            self._see_to_renewals()
            return answer

    def _fly(self, entry: Entry[_Flight], flight: _Flight, seconds: float) -> None:
        """Make the call, and tell the cache what came of it."""
        try:
            flight.outcome = self._arrive(entry, self._issue(entry.request, seconds))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            flight.outcome = error
            with self._lock:
                if entry.flight is flight:
                    self._cache.failed(entry, error, elapsed())
        finally:
            self._land(entry, flight)

    def _arrive(self, entry: Entry[_Flight], arrival: Arrival) -> IssuedToken | None:
        with self._lock:
            self._refuse_closed()
            usable = self._cache.arrived(entry, arrival, self._caller(), elapsed())
            return arrival.issued if usable else None

    def _land(self, entry: Entry[_Flight], flight: _Flight) -> None:
        """Tell all who wait that a call has ended, be it with nothing."""
        with self._lock:
            if entry.flight is flight:
                self._cache.abandoned(entry, elapsed())
            flight.landed.set()
            self._news.notify_all()
            self._see_to_renewals()

    def _see_to_renewals(self) -> None:
        """Wake a thread for what is planned, or start one: where nobody waits for the next plan, it could come late."""
        if self._closed or self._cache.next_due() == NEVER:
            return
        if self._idle:
            self._plans.notify()
        elif self._renewers < RENEWALS_AT_ONCE:
            self._renewers += 1
            try:
                threading.Thread(target=self._renew, name="token-renewal", daemon=True).start()
            except RuntimeError:  # no thread is to be had now: the next asker tries again
                self._renewers -= 1

    def _renew(self) -> None:
        try:
            while (entry := self._next_due(flight := _Flight())) is not None:
                failed_before = entry.failures > 0
                self._fly(entry, flight, self._cache.patience(entry, self._seconds(None), elapsed()))
                if not self._closed:
                    log_renewal(entry.request, flight.outcome, failed_before=failed_before)
        finally:
            with self._lock:
                self._renewers -= 1

    def _next_due(self, flight: _Flight) -> Entry[_Flight] | None:
        """Wait for a token that is to be renewed, and note that its call is under way; ``None`` after the end."""
        with self._lock:
            while not self._closed:
                if (entry := self._cache.due(elapsed())) is not None:
                    self._cache.take_off(entry, flight)
                    self._see_to_renewals()
                    return entry
                self._idle += 1
                self._plans.wait(min(max(self._cache.next_due() - elapsed(), 0.0), LONGEST_NAP))
                self._idle -= 1
        return None


def log_renewal(request: TokenRequest, outcome: IssuedToken | Exception | None, *, failed_before: bool) -> None:
    """Log the first of several failures in the background, and that it works again."""
    if isinstance(outcome, Exception) and not failed_before:
        _logger.warning("the token for %s could not be renewed: %s", request.audience, outcome)
    elif isinstance(outcome, IssuedToken) and failed_before:
        _logger.info("the token for %s is renewed again", request.audience)
