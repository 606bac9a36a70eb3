"""The token cache, driven by one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from agent_client import forks
from agent_client.answers import IssuedToken
from agent_client.clock import elapsed
from agent_client.errors import ClientClosed, IssuerTimedOut, IssuerUnavailable
from agent_client.tokens.cache import NEVER, TokenCache
from agent_client.tokens.entry import Entry, again
from agent_client.tokens.sync import LONGEST_NAP, RENEWALS_AT_ONCE, log_renewal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity
    from agent_client.tokens.entry import Arrival

_Outcome: TypeAlias = IssuedToken | Exception | None
_Flight: TypeAlias = "asyncio.Task[_Outcome]"


class TokenSource:
    """One token, always good, as far as the issuer lets it be. Made by ``IssuerClient.tokens_for``. For one event loop.

    Attributes:
        request: What it asks for.
    """

    def __init__(self, tokens: Tokens, request: TokenRequest, *, keep_fresh: bool) -> None:
        self.request = request
        self._tokens = tokens
        self._entry = tokens.entry(request)
        if keep_fresh:
            self._entry.keepers.add(self)

    async def get(self, *, timeout: float | None = None) -> IssuedToken:  # noqa: ASYNC109 - it is the call's deadline
        """Return a token that is good now; all of :meth:`agent_client.tokens.sync.SyncTokenSource.get` holds here.

        Whoever is cancelled ends the wait of nobody else, and not the call.
        """
        entry = self._entry
        if elapsed() < entry.fresh_until and (good := entry.good) is not None:
            entry.used = True
            return good
        return await self._tokens.obtain(entry, timeout)

    def invalidate(self, refused: IssuedToken) -> None:
        """Tell that a resource server refused this token: the next :meth:`get` asks for another.

        Nothing happens where another has taken its place already, or where the one before was refused some seconds ago.
        """
        self._tokens.invalidate(self._entry, refused)

    async def wait_for_next(self, known: IssuedToken, timeout: float) -> IssuedToken | None:  # noqa: ASYNC109 - as above
        """Return a good token other than ``known`` as soon as there is one; ``None`` after ``timeout`` seconds.

        The timeout may be infinite. It asks for nothing itself: renewal does, with ``keep_fresh`` or while somebody
        uses the token.

        Raises:
            ClientClosed: The client is closed, or is while this waits.
        """
        return await self._tokens.wait_for_next(self._entry, known, timeout)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it belongs to; ``None`` before its client was first used."""
        return self._tokens.loop

    def __repr__(self) -> str:
        return f"TokenSource({self.request!r})"


class Tokens:
    """All sources of one client. For one event loop, whose thread alone may call it.

    Args:
        issue: Asks the issuer, within so many seconds.
        seconds: Gives the seconds that a call may take, from those that its caller named.
        caller: Tells who this workload is now; ``None``: nobody. Must not block.
    """

    def __init__(
        self,
        issue: Callable[[TokenRequest, float], Awaitable[Arrival]],
        seconds: Callable[[float | None], float],
        caller: Callable[[], CallerIdentity | None],
    ) -> None:
        self._issue = issue
        self._seconds = seconds
        self._caller = caller
        self._cache: TokenCache[_Flight] = TokenCache()
        self._reset_tasks()

    def _reset_tasks(self) -> None:
        self._flights: set[_Flight] = set()
        self._renewals = asyncio.Semaphore(RENEWALS_AT_ONCE)
        self._renewer: asyncio.Task[None] | None = None
        self._plans = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def source(self, request: TokenRequest, *, keep_fresh: bool) -> TokenSource:
        """Return a source of what the request asks for.

        Raises:
            ValueError: The request is ``validate_only``.
        """
        return TokenSource(self, request, keep_fresh=keep_fresh)

    def entry(self, request: TokenRequest) -> Entry[_Flight]:
        """Return what is known of a request."""
        return self._cache.entry(request)

    def enter_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running event loop, to which this belongs from its first use on.

        Raises:
            RuntimeError: It belongs to another one.
        """
        loop = asyncio.get_running_loop()
        if self.loop not in (None, loop):
            raise RuntimeError("this client was used in another event loop: make one in each")
        self.loop = loop
        return loop

    async def obtain(self, entry: Entry[_Flight], timeout: float | None) -> IssuedToken:  # noqa: ASYNC109 - as above
        """Return a good token, by asking for one or by waiting for who does; see :meth:`TokenSource.get`."""
        self.enter_loop()
        end = time.monotonic() + self._seconds(timeout)
        while True:
            self._refuse_closed()
            flight = self._cache.look(entry, elapsed())
            self._see_to_renewals()
            if isinstance(flight, IssuedToken):
                return flight
            leads = flight is None
            if flight is None:
                flight = self._take_off(entry, end - time.monotonic())
            outcome = await self._landing(flight, end)
            if isinstance(outcome, IssuedToken):
                return outcome
            # Who made the call may have had less time than is left here; and what it brought may be another's by now.
            if outcome is not None and (leads or not isinstance(outcome, IssuerUnavailable)):
                raise again(outcome)
            if time.monotonic() >= end:
                raise again(outcome) if outcome else IssuerTimedOut("no token that can be used before the deadline")

    def invalidate(self, entry: Entry[_Flight], refused: IssuedToken) -> None:
        """See :meth:`TokenSource.invalidate`."""
        self._cache.invalidate(entry, refused, elapsed())

    async def wait_for_next(
        self,
        entry: Entry[_Flight],
        known: IssuedToken,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> IssuedToken | None:
        """See :meth:`TokenSource.wait_for_next`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._closed and entry.good_other_than(known, elapsed()) is None:
                    await self._news.wait()
        self._refuse_closed()
        return entry.good_other_than(known, elapsed())

    def caller_changed(self) -> None:
        """Tell that this workload may be another from now on."""
        self._cache.caller_changed(self._caller(), elapsed())
        self._see_to_renewals()

    def people_approved(self) -> None:
        """Tell that people approved something: who was refused for want of that may ask at once."""
        self._cache.people_approved()

    def access_ended(self, access: str) -> None:
        """Hand out no token of a window of access any more."""
        self._cache.access_ended(access)

    def close(self) -> None:
        """End the renewals and the calls under way. Whoever waits for one of them learns that the client is closed."""
        self._closed = True
        for task in self._tasks():
            task.cancel()
        self._cache.forget()
        self._tell_news()

    async def ended(self) -> None:
        """Wait for all that was under way. To be called after :meth:`close`."""
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    def forget(self) -> None:
        """Begin anew, in the child of a fork: its loop is gone, and its identity may be another."""
        for task in self._tasks():
            forks.keep(task)
        self._reset_tasks()
        self._cache.forget()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [*self._flights, *([self._renewer] if self._renewer else ())]

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this client is closed")

    def _take_off(self, entry: Entry[_Flight], seconds: float) -> _Flight:
        flight = asyncio.get_running_loop().create_task(self._fly(entry, seconds))
        # The loop itself keeps only weak references to its tasks.
        self._flights.add(flight)
        # Not at the end of the task: one that is cancelled at once never begins.
        flight.add_done_callback(functools.partial(self._landed, entry))
        self._cache.take_off(entry, flight)
        return flight

    async def _fly(self, entry: Entry[_Flight], seconds: float) -> _Outcome:
        """Make the call, tell the cache, and return what came of it. ``None`` means: ask anew."""
        try:
            arrival = await self._issue(entry.request, seconds)
            self._refuse_closed()
            return arrival.issued if self._cache.arrived(entry, arrival, self._caller(), elapsed()) else None
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            if entry.flight is asyncio.current_task():
                self._cache.failed(entry, error, elapsed())
            return error

    def _landed(self, entry: Entry[_Flight], flight: _Flight) -> None:
        self._flights.discard(flight)
        if entry.flight is flight:
            self._cache.abandoned(entry, elapsed())
        self._tell_news()
        if not flight.cancelled():  # otherwise the loop may be about to end, and begins nothing more
            self._see_to_renewals()

    async def _landing(self, flight: _Flight, end: float) -> _Outcome:
        """Wait for a call to end. Cancelling the wait leaves the call alone, for others wait for it too."""
        done, _ = await asyncio.wait([flight], timeout=max(end - time.monotonic(), 0.0))
        if not done:
            raise IssuerTimedOut("no answer from the issuer before the deadline")
        if flight.cancelled():
            raise ClientClosed("this client was closed during the call")
        return flight.result()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _see_to_renewals(self) -> None:
        """Wake the task that renews, or start it where it is needed for the first time."""
        if self._closed or self._cache.next_due() == NEVER:
            return
        if self._renewer is None or self._renewer.done():
            # In a context of its own: the first asker's context variables are not for all that comes after.
            self._renewer = asyncio.get_running_loop().create_task(self._renew(), context=contextvars.Context())
        self._plans.set()

    async def _renew(self) -> None:
        while True:
            await self._renewals.acquire()
            entry = await self._next_due()
            failed_before = entry.failures > 0
            flight = self._take_off(entry, self._cache.patience(entry, self._seconds(None), elapsed()))
            flight.add_done_callback(functools.partial(self._renewed, entry.request, failed_before=failed_before))

    def _renewed(self, request: TokenRequest, flight: _Flight, *, failed_before: bool) -> None:
        self._renewals.release()
        if not (self._closed or flight.cancelled()):
            log_renewal(request, flight.result(), failed_before=failed_before)

    async def _next_due(self) -> Entry[_Flight]:
        while (entry := self._cache.due(elapsed())) is None:
            self._plans.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(self._cache.next_due() - elapsed(), 0.0), LONGEST_NAP)):
                    await self._plans.wait()
        return entry
