"""What a server does to handlers at moments that cannot be hit from outside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from agent_client.verification.current import NoCurrentToken, current_token
from agent_client.verification.grpc_aio import AioGuard
from agent_client.verification.grpc_calls import MethodRules
from agent_client.verification.grpc_sync import SyncGuard
from agent_client.verification.method_scopes import MethodScopes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.guarded_api import Api

METHOD = "/ledger.v1.LedgerService/Feed"


class Context:
    """As much of grpc's context as a call that is admitted needs."""

    def __init__(self, token: str) -> None:
        self._token = token

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token}")]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "unix:"

    async def abort(self, *_: object) -> NoReturn:
        raise AssertionError("the call was refused")


def guard(kind: type[Any], ledger: Api, behaviour: Callable[[Any, Any], Any]) -> Any:
    methods = MethodScopes({METHOD: ["ledger.read"]})
    return kind(MethodRules(ledger.verifier, methods, end_streams=True), METHOD, behaviour, None, streaming=True)


async def test_a_stream_that_nobody_reads_on_is_closed_with_its_token(ledger: Api) -> None:
    closed_for: list[str] = []

    async def feed(_: object, __: object) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed_for.append(current_token().token_id)

    answers = guard(AioGuard, ledger, feed).many_answers(b"", Context(ledger.token(token_id="jti-5")))
    assert await anext(answers) == b"x"
    with pytest.raises(NoCurrentToken):
        current_token()  # between two messages the task is gRPC's
    await answers.aclose()
    assert closed_for == ["jti-5"]


def test_a_synchronous_stream_is_closed_with_its_token_by_whichever_thread(ledger: Api) -> None:
    closed_for: list[str] = []

    def feed(_: object, __: object) -> Iterator[bytes]:
        try:
            while True:
                yield current_token().token_id.encode()
        finally:
            closed_for.append(current_token().token_id)

    answers = guard(SyncGuard, ledger, feed).many_answers(b"", Context(ledger.token(token_id="jti-6")))
    loop = asyncio.new_event_loop()
    try:
        for _ in range(3):  # each in a thread of its own, as grpc.aio's pool may do it
            assert loop.run_until_complete(asyncio.to_thread(next, answers)) == b"jti-6"
        loop.run_until_complete(asyncio.to_thread(answers.close))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert closed_for == ["jti-6"]


async def test_a_handlers_own_time_limit_is_not_the_tokens(ledger: Api) -> None:
    async def feed(_: object, __: object) -> AsyncIterator[bytes]:
        yield b"x"
        raise TimeoutError("mine")

    answers = guard(AioGuard, ledger, feed).many_answers(b"", Context(ledger.token()))
    assert await anext(answers) == b"x"
    with pytest.raises(TimeoutError, match="mine"):
        await anext(answers)


async def test_a_task_that_outlives_its_call_has_no_token(ledger: Api) -> None:
    go_on = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def later() -> None:
        current_token()
        await go_on.wait()
        current_token()

    async def answer(_: object, __: object) -> bytes:
        left.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
        return b"x"

    assert await guard(AioGuard, ledger, answer).one_answer(b"", Context(ledger.token())) == b"x"
    go_on.set()
    with pytest.raises(NoCurrentToken, match="has ended"):
        await left[0]
