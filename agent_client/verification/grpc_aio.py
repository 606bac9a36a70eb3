"""An asynchronous RPC handler of ``grpc.aio`` with verification around it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from agent_client.verification.current import ServedCall
from agent_client.verification.errors import RejectionReason, TokenRejected, VerificationError
from agent_client.verification.expiry import StreamExpired, seconds_until_end
from agent_client.verification.grpc_calls import UNREADABLE, RequestUnreadable, credentials_of, parsed, refusal
from agent_client.verification.request_errors import RAISED_BY_HANDLERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent_client.verification.grpc_calls import MethodRules
    from agent_client.verification.verified_token import VerifiedToken

_NO_MORE = object()


class AioGuard:
    """Guards the handler of one method.

    Args:
        rules: How calls are verified.
        method: The method's full name.
        behaviour: The handler.
        deserializer: What reads the request of a method that takes one; ``None`` for the others.
        streaming: The method takes or gives several messages.
    """

    def __init__(
        self,
        rules: MethodRules,
        method: str,
        behaviour: Callable[[Any, Any], Any],
        deserializer: Callable[[bytes], Any] | None,
        *,
        streaming: bool,
    ) -> None:
        self._rules = rules
        self._method = method
        self._behaviour = behaviour
        self._deserializer = deserializer
        self._ends = streaming and rules.end_streams

    async def one_answer(self, request: Any, context: Any) -> Any:  # noqa: ANN401 - any messages
        """Serve a method that gives one message, or one that writes its messages to the context."""
        async with self._served(context) as (call, end):
            return await _step(call, end, self._behaviour(parsed(self._deserializer, request), context))

    async def many_answers(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - any messages
        """Serve a method that is an asynchronous generator."""
        async with self._served(context) as (call, end):
            answers = self._behaviour(parsed(self._deserializer, request), context)
            try:
                while (answer := await _step(call, end, anext(answers, _NO_MORE))) is not _NO_MORE:
                    yield answer
            finally:
                with call:
                    await answers.aclose()

    @asynccontextmanager
    async def _served(self, context: Any) -> AsyncIterator[tuple[ServedCall, float | None]]:  # noqa: ANN401
        """Verify the call, and answer for the handler what it raises. Gives the call, and when a stream has to end."""
        token = await self._admitted(context)
        end = asyncio.get_running_loop().time() + seconds_until_end(token) if self._ends else None
        call = ServedCall(token)
        try:
            yield call, end
        except RAISED_BY_HANDLERS as error:
            await self._refuse(context, error, token)
        except StreamExpired:
            await self._refuse(context, TokenRejected(RejectionReason.EXPIRED), token)
        except RequestUnreadable:
            await context.abort(grpc.StatusCode.INTERNAL, UNREADABLE)
        finally:
            call.end()

    async def _admitted(self, context: Any) -> VerifiedToken:  # noqa: ANN401 - grpc has no types
        """Return the caller's token, which is good for this method; otherwise the call ends."""
        token: VerifiedToken | None = None
        try:
            credentials = credentials_of(context)
            token = await self._rules.verifier.verify_async(credentials.token, certificate=credentials.certificate)
            token.require(*self._rules.methods.needed(self._method))
        except VerificationError as error:
            await self._refuse(context, error, token)
        return token

    async def _refuse(self, context: Any, error: VerificationError, token: VerifiedToken | None) -> NoReturn:  # noqa: ANN401
        answer = refusal(error, context, self._method, token)
        await context.abort(answer.code, answer.details, answer.trailers)
        raise AssertionError("abort() did not end the call")


async def _step(call: ServedCall, end: float | None, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - any message
    """Return what a handler brings next, for as long as the token lasts.

    Raises:
        StreamExpired: It took longer.
    """
    limit = asyncio.timeout_at(end)
    try:
        with call:
            async with limit:
                return await awaitable
    except TimeoutError:
        if limit.expired():
            raise StreamExpired from None
        raise
