"""The token cache, driven by threads: askers make the calls that they need, a few daemons make the renewals."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from agent_client.answers import IssuedToken
from agent_client.clock import elapsed
from agent_client.errors import IssuerTimedOut, IssuerUnavailable
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
    """One call under way. Whoever waits reads ``outcome`` once ``landed`` is set; ``None`` there means: ask anew."""

    def __init__(self) -> None:
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
        good = entry.good
        if good is not None and elapsed() < entry.fresh_until:
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

        It asks for nothing itself: renewal does, with ``keep_fresh`` or while somebody uses the token.
        """
        return self._tokens.wait_for_next(self._entry, known, timeout)

    def __repr__(self) -> str:
        return f"SyncTokenSource({self.request!r})"


class SyncTokens:
    """All sources of one client. Thread-safe.

    Args:
        issue: Asks the issuer, within so many seconds.
        seconds: Gives the seconds that a call may take, from those that its caller named.
    """

    def __init__(
        self, issue: Callable[[TokenRequest, float], Arrival], seconds: Callable[[float | None], float]
    ) -> None:
        self._issue = issue
        self._seconds = seconds
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
            flight, leads = self._board(entry)
            if isinstance(flight, IssuedToken):
                return flight
            if leads:
                self._fly(entry, flight, end - time.monotonic())
            elif not flight.landed.wait(end - time.monotonic()):
                raise IssuerTimedOut("no answer from the issuer before the deadline")
            outcome = flight.outcome
            if isinstance(outcome, IssuedToken):
                return outcome
            if outcome is not None and leads:
                raise outcome
            # Who made the call may have had less time than is left here; and what it brought may be another's by now.
            if outcome is not None and not isinstance(outcome, IssuerUnavailable):
                raise again(outcome)
            if time.monotonic() >= end:
                raise again(outcome) if outcome else IssuerTimedOut("this workload's SVID changed until the deadline")

    def invalidate(self, entry: Entry[_Flight], refused: IssuedToken) -> None:
        """See :meth:`SyncTokenSource.invalidate`."""
        with self._lock:
            self._cache.invalidate(entry, refused, elapsed())

    def wait_for_next(self, entry: Entry[_Flight], known: IssuedToken, timeout: float) -> IssuedToken | None:
        """See :meth:`SyncTokenSource.wait_for_next`."""
        with self._news:
            self._news.wait_for(lambda: self._closed or entry.good not in (None, known), timeout)
            return entry.good if entry.good is not known else None

    def caller_changed(self, caller: CallerIdentity | None) -> None:
        """Tell who this workload is from now on."""
        with self._lock:
            self._cache.caller_changed(caller, elapsed())
            self._see_to_renewals()

    def close(self) -> None:
        """End the renewals. Those under way end with the client's channels."""
        with self._lock:
            self._closed = True
            self._news.notify_all()
            self._plans.notify_all()

    def forget(self) -> None:
        """Begin anew, in the child of a fork: its threads are gone, and its identity may be another."""
        self._reset_threads()
        self._cache.forget()

    def _board(self, entry: Entry[_Flight]) -> tuple[IssuedToken | _Flight, bool]:
        """Return the token, or the call that will bring it and whether this thread is the one to make it."""
        with self._lock:
            answer = self._cache.look(entry, elapsed())
            if answer is not None:
                self._see_to_renewals()
                return answer, False
            return self._take_off(entry), True

    def _take_off(self, entry: Entry[_Flight]) -> _Flight:
        flight = _Flight()
        self._cache.take_off(entry, flight)
        return flight

    def _fly(self, entry: Entry[_Flight], flight: _Flight, seconds: float) -> None:
        """Make the call, and tell the cache and all who wait what came of it."""
        try:
            flight.outcome = self._arrive(entry, self._issue(entry.request, seconds))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            flight.outcome = error
            with self._lock:
                self._cache.failed(entry, error, elapsed())
        finally:
            with self._lock:
                if entry.flight is flight:
                    self._cache.abandoned(entry)  # by a KeyboardInterrupt, say
                flight.landed.set()
                self._news.notify_all()
                self._see_to_renewals()

    def _arrive(self, entry: Entry[_Flight], arrival: Arrival) -> IssuedToken | None:
        with self._lock:
            return arrival.issued if self._cache.arrived(entry, arrival) else None

    def _see_to_renewals(self) -> None:
        """Wake a thread for what is planned, or start one where all that there are have work."""
        due_at = self._cache.next_due()
        if self._closed or due_at == NEVER:
            return
        if self._idle:
            self._plans.notify()
        elif self._renewers == 0 or (due_at <= elapsed() and self._renewers < RENEWALS_AT_ONCE):
            self._renewers += 1
            threading.Thread(target=self._renew, name="token-renewal", daemon=True).start()

    def _renew(self) -> None:
        while (entry := self._next_due()) is not None and entry.flight is not None:
            failed_before, flight = entry.failures > 0, entry.flight
            self._fly(entry, flight, self._seconds(None))
            log_renewal(entry.request, flight.outcome, failed_before=failed_before)

    def _next_due(self) -> Entry[_Flight] | None:
        """Wait for a token that is to be renewed, and note that its call is under way; ``None`` after the end."""
        with self._lock:
            while not self._closed:
                if (entry := self._cache.due(elapsed())) is not None:
                    self._take_off(entry)
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
