"""Sources of tokens in threads and in an event loop, behind one face; a test answers each of their calls itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from agent_client.clock import elapsed
from agent_client.errors import IssuerUnavailable
from agent_client.tokens.aio import Tokens
from agent_client.tokens.entry import Arrival
from agent_client.tokens.sync import SyncTokens
from support.kept_tokens import SETTLER, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity

WITHIN = 20.0
"""Seconds for what happens at once on an idle machine."""
CLIENT_SECONDS = 10.0


class Call:
    """One call of a client under test, which waits for its answer.

    Attributes:
        request: What it asks for.
        seconds: How long it may take.
        caller: Who made it.
    """

    def __init__(self, request: TokenRequest, seconds: float, caller: CallerIdentity | None) -> None:
        self.request, self.seconds, self.caller = request, seconds, caller
        self._answer: Future[Arrival] = Future()

    def bring(self, issued: IssuedToken | None = None, *, age: float = 0.0) -> IssuedToken:
        """Answer with a token that was asked for ``age`` seconds ago, and return it."""
        issued = issued or token()
        self._answer.set_result(Arrival(issued, self.caller or SETTLER, elapsed() - age))
        return issued

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._answer.set_exception(error)

    def wait(self) -> Arrival:
        """Return the answer, once there is one."""
        return self._answer.result(WITHIN)


class Script:
    """The issuer's side. Each call goes to ``on_call`` if that is set, otherwise it waits for the test.

    Attributes:
        caller: Who the workload is.
        begun: How many calls have begun.
        most_at_once: How many were under way at the same moment, at most.
    """

    def __init__(self) -> None:
        self.caller: CallerIdentity | None = SETTLER
        self.on_call: Callable[[Call], object] | None = None
        self._calls: queue.Queue[Call] = queue.Queue()
        self._all: list[Call] = []
        self._lock = threading.Lock()
        self.begun = self.under_way = self.most_at_once = 0

    def issue(self, request: TokenRequest, seconds: float) -> Arrival:
        """Be called as a client calls the issuer."""
        call = Call(request, seconds, self.caller)
        with self._lock:
            self._all.append(call)
            self.begun += 1
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.on_call is not None:
                self.on_call(call)
            else:
                self._calls.put(call)
            return call.wait()
        finally:
            with self._lock:
                self.under_way -= 1

    def call(self, within: float = WITHIN) -> Call:
        """Return the next call, once it has begun."""
        return self._calls.get(timeout=within)

    def no_call(self) -> bool:
        """Whether no call waits."""
        return self._calls.empty()

    def end(self) -> None:
        """Let every call fail that is under way or still comes."""
        self.on_call = lambda call: call.fail(IssuerUnavailable("the test is over"))
        for call in list(self._all):
            with contextlib.suppress(InvalidStateError):
                call.fail(IssuerUnavailable("the test is over"))


def seconds(given: float | None) -> float:
    """Return what a client without arguments allows."""
    return CLIENT_SECONDS if given is None else given


class InThreads:
    """Sources for threads."""

    MANY = 500  # as many as a large server has; 10,000 at once is for tasks, see below

    def __init__(self, script: Script) -> None:
        self.tokens = SyncTokens(script.issue, seconds, lambda: script.caller)
        self._names = itertools.count()

    def source(self, request: TokenRequest, *, keep_fresh: bool = False) -> Any:
        return self.tokens.source(request, keep_fresh=keep_fresh)

    def ask(self, source: Any, timeout: float | None = None) -> Future[IssuedToken]:
        """Begin ``get()`` in a thread of its own."""
        return self._begin(source.get, timeout=timeout)

    def ask_many(self, source: Any, count: int) -> list[Future[IssuedToken]]:
        """Begin ``get()`` in so many threads."""
        small = threading.stack_size(128 * 1024)
        try:
            return [self.ask(source) for _ in range(count)]
        finally:
            threading.stack_size(small)

    def get(self, source: Any, timeout: float | None = None) -> IssuedToken:
        issued: IssuedToken = source.get(timeout=timeout)
        return issued

    def wait_for_next(self, source: Any, known: IssuedToken, timeout: float) -> Future[IssuedToken | None]:
        return self._begin(source.wait_for_next, known, timeout)

    def do(self, action: Callable[[], None]) -> None:
        """Do what belongs into the thread of the sources."""
        action()

    def close(self) -> None:
        self.tokens.close()

    def end(self) -> None:
        self.close()

    def _begin(self, work: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work(*args, **options))
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                future.set_exception(error)

        threading.Thread(target=run, name=f"asker-{next(self._names)}", daemon=True).start()
        return future


class InALoop:
    """Sources for asyncio, in a loop that runs in a thread of its own."""

    MANY = 10_000

    def __init__(self, script: Script) -> None:
        self._pool = ThreadPoolExecutor(64)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

        async def issue(request: TokenRequest, seconds: float) -> Arrival:
            return await self.loop.run_in_executor(self._pool, script.issue, request, seconds)

        self.tokens = Tokens(issue, seconds, lambda: script.caller)

    def source(self, request: TokenRequest, *, keep_fresh: bool = False) -> Any:
        return self.tokens.source(request, keep_fresh=keep_fresh)

    def ask(self, source: Any, timeout: float | None = None) -> Future[IssuedToken]:
        """Begin ``get()`` in a task of its own; to cancel the future cancels the task."""
        return asyncio.run_coroutine_threadsafe(source.get(timeout=timeout), self.loop)

    def ask_many(self, source: Any, count: int) -> list[Future[IssuedToken]]:
        return [self.ask(source) for _ in range(count)]

    def get(self, source: Any, timeout: float | None = None) -> IssuedToken:
        return self.ask(source, timeout).result(WITHIN)

    def wait_for_next(self, source: Any, known: IssuedToken, timeout: float) -> Future[IssuedToken | None]:
        return asyncio.run_coroutine_threadsafe(source.wait_for_next(known, timeout), self.loop)

    def do(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self.loop).result(WITHIN)

    def close(self) -> None:
        self.do(self.tokens.close)
        asyncio.run_coroutine_threadsafe(self.tokens.ended(), self.loop).result(WITHIN)

    def tasks(self) -> int:
        """Return how many tasks there are besides the one that looks."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(WITHIN)

    def end(self) -> None:
        self.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._pool.shutdown(wait=False)
