"""What holds for sources of an event loop alone."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import weakref
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually_true
from support.kept_tokens import REQUEST, SETTLER, arrival, request_number, token
from support.scripted_tokens import seconds

from agent_client.clock import elapsed
from agent_client.errors import ClientClosed
from agent_client.tokens.aio import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.tokens.aio import TokenSource
    from agent_client.tokens.entry import Arrival

OF_A_REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("of a request", default="nobody's")


class Issuer:
    """Holds each call until the test lets it go."""

    def __init__(self) -> None:
        self.tokens = Tokens(self.issue, seconds, lambda: SETTLER)
        self.calls: list[asyncio.Future[IssuedToken]] = []
        self.contexts: list[str] = []
        self.age = 0.0

    async def issue(self, request: TokenRequest, _: float) -> Arrival:
        assert request
        answer: asyncio.Future[IssuedToken] = asyncio.get_running_loop().create_future()
        self.calls.append(answer)
        self.contexts.append(OF_A_REQUEST.get())
        return arrival(await answer, elapsed() - self.age)

    async def call(self, number: int) -> asyncio.Future[IssuedToken]:
        await eventually_true(lambda: len(self.calls) > number)
        return self.calls[number]

    async def due_token(self) -> IssuedToken:
        """Fetch a token that is to be renewed now, and use it: its renewal begins."""
        self.age = 58.0
        source = self.tokens.source(REQUEST, keep_fresh=False)
        asked = asyncio.ensure_future(source.get())
        (await self.call(0)).set_result(token())
        issued = await asked
        assert await source.get() is issued
        await self.call(1)
        return issued


async def close(issuer: Issuer) -> None:
    issuer.tokens.close()
    await issuer.tokens.ended()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(autouse=True)
def _asyncio_complains_of_nothing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_who_is_cancelled_ends_neither_the_call_nor_the_wait_of_others(issuer: Issuer) -> None:
    source = issuer.tokens.source(REQUEST, keep_fresh=False)
    leader, *waiters = [asyncio.ensure_future(source.get()) for _ in range(5)]
    call = await issuer.call(0)
    leader.cancel()
    waiters.pop().cancel()
    issued = token()
    call.set_result(issued)
    assert await asyncio.gather(*waiters) == [issued] * 3
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert await source.get() is issued
    assert len(issuer.calls) == 1
    await close(issuer)


async def test_a_call_that_is_cancelled_before_it_begins_strands_nobody(issuer: Issuer) -> None:
    source = issuer.tokens.source(REQUEST, keep_fresh=False)
    leader = asyncio.ensure_future(source.get())
    await asyncio.sleep(0)
    (flight,) = issuer.tokens._flights
    flight.cancel()
    with pytest.raises(ClientClosed):
        await leader
    asked = asyncio.ensure_future(source.get())
    (await issuer.call(0)).set_result(token())
    assert await asked
    await close(issuer)


async def test_calls_are_not_garbage(issuer: Issuer) -> None:
    source = issuer.tokens.source(REQUEST, keep_fresh=False)
    asked = asyncio.ensure_future(source.get())
    call = await issuer.call(0)
    asked.cancel()
    del asked, source
    for _ in range(5):
        gc.collect()
        await asyncio.sleep(0)
    (flight,) = issuer.tokens._flights
    call.set_result(token())
    assert await flight
    assert not issuer.tokens._flights
    await close(issuer)


async def test_renewals_know_nothing_of_the_context_of_who_asked_first(issuer: Issuer) -> None:
    OF_A_REQUEST.set("Alice's")
    await issuer.due_token()
    assert issuer.contexts == ["Alice's", "nobody's"]
    await close(issuer)


async def test_renewals_go_on_after_somebody_cancelled_every_task(issuer: Issuer) -> None:
    issued = await issuer.due_token()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await eventually_true(lambda: not issuer.tokens._flights)
    source = issuer.tokens.source(REQUEST, keep_fresh=False)
    issuer.tokens._cache.entry(REQUEST).fresh_until = 0.0
    assert await source.get() is issued
    second = token()
    (await issuer.call(2)).set_result(second)
    await eventually_true(lambda: issuer.tokens._cache.entry(REQUEST).good is second)
    await close(issuer)


async def test_closing_waits_for_what_it_ended(issuer: Issuer) -> None:
    await issuer.due_token()
    waiting = asyncio.ensure_future(issuer.tokens.source(request_number(1), keep_fresh=False).get())
    await issuer.call(2)
    before = asyncio.all_tasks()
    await close(issuer)
    assert asyncio.all_tasks() <= {asyncio.current_task(), waiting}
    assert len(before) == 5
    with pytest.raises(ClientClosed):
        await waiting


def test_a_loop_that_ends_with_calls_under_way_is_quiet(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    async def use() -> None:
        await issuer.due_token()
        waiting = [
            asyncio.ensure_future(issuer.tokens.source(request_number(n), keep_fresh=True).get()) for n in (1, 2)
        ]
        await issuer.call(3)
        del waiting

    caplog.set_level(logging.DEBUG)
    with asyncio.Runner() as runner:
        runner.run(use())
    gc.collect()
    assert "agent_client" not in caplog.text


def loop_of(source: TokenSource) -> asyncio.AbstractEventLoop | None:
    return source.loop


def test_another_loop_is_refused(issuer: Issuer) -> None:
    source = issuer.tokens.source(REQUEST, keep_fresh=False)
    assert loop_of(source) is None

    async def ask() -> IssuedToken:
        asked = asyncio.ensure_future(source.get())
        (await issuer.call(0)).set_result(token())
        return await asked

    with asyncio.Runner() as runner:
        source.invalidate(runner.run(ask()))
        assert loop_of(source) is runner.get_loop()
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(source.get())


async def test_the_child_of_a_fork_leaves_the_tasks_of_its_parent_alone(issuer: Issuer) -> None:
    """They cannot end there; and to take one down would call gRPC."""
    await issuer.due_token()
    tasks = [weakref.ref(task) for task in issuer.tokens._tasks()]
    issuer.tokens.forget()
    gc.collect()
    assert len(tasks) == 2
    for task in tasks:
        left = task()
        assert left is not None
        assert not left.cancelling()
        left.cancel()
    assert (issuer.tokens.loop, issuer.tokens._tasks()) == (None, [])
