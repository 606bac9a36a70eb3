"""Verification in front of gRPC servers: an interceptor for ``grpc.aio.server``, and one for ``grpc.server``.

::

    server = grpc.aio.server(interceptors=[TokenInterceptor(
        verifier,
        scopes={
            "/ledger.v1.LedgerService/*": ["ledger.read"],
            "/ledger.v1.LedgerService/Settle": ["ledger.write"],
        },
        public=["/grpc.health.v1.Health/*"],
    )])

A call brings its token in the metadata, ``authorization: Bearer TOKEN``, once. How a refused call ends::

    TOKEN_MISSING, AUTHORIZATION_MALFORMED, TOKEN_REJECTED        UNAUTHENTICATED
    SCOPE_INSUFFICIENT, APPLICATION_REJECTED, METHOD_NOT_LISTED   PERMISSION_DENIED
    STEP_UP_NEEDED                                                FAILED_PRECONDITION
    KEYS_UNAVAILABLE, REVOCATIONS_UNAVAILABLE                     UNAVAILABLE, with RetryInfo

The reason is in ``google.rpc.ErrorInfo``, of the domain ``spiffe-issuer``. Handlers have the token by
:func:`~agent_client.verification.current.current_token`, and may raise ``InsufficientScope`` and ``StepUpNeeded``.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from agent_client.verification.grpc_aio import AioGuard
from agent_client.verification.grpc_calls import MethodRules
from agent_client.verification.grpc_sync import SyncGuard
from agent_client.verification.method_scopes import MethodScopes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from agent_client.verification.verifier import TokenVerifier

_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., grpc.RpcMethodHandler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and answers are streams: where a handler of the kind is kept, and what makes one."""


class GuardingInterceptor:
    """What both interceptors are made from.

    A call whose method is not named in ``scopes``, nor its service with ``/*``, is refused unless there are
    ``default_scopes``; health and reflection too, which are named in ``public`` where everybody may have them.

    Name it first among the interceptors: an interceptor before it sees calls that are not verified yet, and a single
    request as bytes, for nothing of it is parsed before its token is verified.

    The certificate that a bound token needs is the one of the connection, so TLS has to ask callers for it.

    A token that expires does not end a call that takes and gives one message. A stream ends with UNAUTHENTICATED five
    seconds after its token has expired, when its handler waits or brings its next message; it must not outlive its
    token for ever. A handler of ``grpc.server`` that waits in its thread cannot be woken: its call is cancelled, and
    the caller gets CANCELLED. A synchronous handler in the pool of ``grpc.aio`` ends with its next message.

    Args:
        verifier: Verifies the tokens. It stays the caller's to close.
        scopes: For each ``/package.Service/Method`` or ``/package.Service/*``, the scopes that are needed.
        default_scopes: The scopes that are needed for every other method; ``None`` does not serve them.
        public: Methods and services that are served without a token. A token that comes along is not looked at.
        end_streams_at_expiry: Whether streams end as said above.

    Raises:
        TypeError: One string is given for several.
        ValueError: A name is malformed, or nothing is needed for it: empty never means all.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        *,
        scopes: Mapping[str, Collection[str]],
        default_scopes: Collection[str] | None = None,
        public: Collection[str] = (),
        end_streams_at_expiry: bool = True,
    ) -> None:
        methods = MethodScopes(scopes, default_scopes=default_scopes, public=public)
        self._rules = MethodRules(verifier, methods, end_streams_at_expiry)

    def _guarded(self, handler: grpc.RpcMethodHandler | None, method: str) -> grpc.RpcMethodHandler | None:
        """Return the handler with verification around it; itself where there is none, or where it is public."""
        if handler is None or self._rules.methods.is_public(method):
            return handler
        name, make = _KINDS[handler.request_streaming, handler.response_streaming]
        return make(
            self._behaviour(getattr(handler, name), handler, method),
            # One request is read by the guard, once the token is verified. Streams are read as they come.
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )

    def _behaviour(
        self, behaviour: Callable[[Any, Any], Any], handler: grpc.RpcMethodHandler, method: str
    ) -> Callable[[Any, Any], Any]:
        """Return a handler of the same kind as ``behaviour``: gRPC looks at the kind to know how to call it."""
        deserializer = None if handler.request_streaming else handler.request_deserializer
        streaming = handler.request_streaming or handler.response_streaming
        if inspect.isasyncgenfunction(behaviour):
            return AioGuard(self._rules, method, behaviour, deserializer, streaming=streaming).many_answers
        if inspect.iscoroutinefunction(behaviour):
            return AioGuard(self._rules, method, behaviour, deserializer, streaming=streaming).one_answer
        guard = SyncGuard(self._rules, method, behaviour, deserializer, streaming=streaming)
        return guard.many_answers if handler.response_streaming else guard.one_answer


class TokenInterceptor(GuardingInterceptor, grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """The interceptor of ``grpc.aio.server``; its arguments and promises are those of :class:`GuardingInterceptor`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, guarded."""
        return self._guarded(await continuation(handler_call_details), handler_call_details.method)


class SyncTokenInterceptor(GuardingInterceptor, grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """The interceptor of ``grpc.server``; its arguments and promises are those of :class:`GuardingInterceptor`."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, guarded."""
        return self._guarded(continuation(handler_call_details), handler_call_details.method)
