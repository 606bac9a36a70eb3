"""A synchronous RPC handler with verification around it.

That is each one of ``grpc.server``, and in ``grpc.aio`` those that are no coroutines and run in its thread pool.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from agent_client.verification.current import ServedCall
from agent_client.verification.errors import RejectionReason, TokenRejected, VerificationError
from agent_client.verification.expiry import StreamExpired, seconds_until_end
from agent_client.verification.grpc_calls import UNREADABLE, RequestUnreadable, credentials_of, parsed, refusal
from agent_client.verification.request_errors import RAISED_BY_HANDLERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent_client.verification.grpc_calls import MethodRules
    from agent_client.verification.verified_token import VerifiedToken


_NO_MORE = object()
_PATIENCE_SECONDS = 1.0
"""How much longer a handler may take for its next message, at which the stream ends in good order."""


class SyncGuard:
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

    def one_answer(self, request: Any, context: Any) -> Any:  # noqa: ANN401 - any messages
        """Serve a method that gives one message."""
        with self._served(context) as (call, _), call:
            return self._behaviour(parsed(self._deserializer, request), context)

    def many_answers(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: ANN401 - any messages
        """Serve a method that gives several. The token is the current one whichever thread asks for the next."""
        with self._served(context) as (call, end):
            with call:
                answers = iter(self._behaviour(parsed(self._deserializer, request), context))
            try:
                while (answer := _next_of(answers, call)) is not _NO_MORE:
                    if time.monotonic() >= end:
                        raise StreamExpired
                    yield answer
            finally:
                if (close := getattr(answers, "close", None)) is not None:
                    with call:
                        close()

    @contextmanager
    def _served(self, context: Any) -> Iterator[tuple[ServedCall, float]]:  # noqa: ANN401 - one of two kinds
        """Verify the call, and answer for the handler what it raises. Gives the call, and when a stream has to end."""
        token = self._admitted(context)
        seconds = seconds_until_end(token) if self._ends else math.inf
        call = ServedCall(token)
        try:
            with _cancelled_after(seconds + _PATIENCE_SECONDS, context):
                yield call, time.monotonic() + seconds
        except RAISED_BY_HANDLERS as error:
            self._refuse(context, error, token)
        except StreamExpired:
            self._refuse(context, TokenRejected(RejectionReason.EXPIRED), token)
        except RequestUnreadable:
            context.abort(grpc.StatusCode.INTERNAL, UNREADABLE)
        finally:
            call.end()

    def _admitted(self, context: Any) -> VerifiedToken:  # noqa: ANN401 - one of two kinds
        """Return the caller's token, which is good for this method; otherwise the call ends."""
        token: VerifiedToken | None = None
        try:
            credentials = credentials_of(context)
            token = self._rules.verifier.verify(credentials.token, certificate=credentials.certificate)
            token.require(*self._rules.methods.needed(self._method))
        except VerificationError as error:
            self._refuse(context, error, token)
        return token

    def _refuse(self, context: Any, error: VerificationError, token: VerifiedToken | None) -> NoReturn:  # noqa: ANN401
        answer = refusal(error, context, self._method, token)
        context.set_trailing_metadata(answer.trailers)
        context.abort(answer.code, answer.details)
        raise AssertionError("abort() did not end the call")


def _next_of(answers: Iterator[Any], call: ServedCall) -> object:
    with call:
        return next(answers, _NO_MORE)


@contextmanager
def _cancelled_after(seconds: float, context: Any) -> Iterator[None]:  # noqa: ANN401 - one of two kinds
    """Cancel the call from outside when it takes longer: a thread that waits for a message cannot be told otherwise.

    It takes a thread that sleeps, for each stream; a server has no more streams than its pool has threads. The context
    that grpc.aio gives to synchronous handlers cannot be cancelled.
    """
    cancel = getattr(context, "cancel", None)
    if math.isinf(seconds) or cancel is None:
        yield
        return
    timer = threading.Timer(seconds, cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
