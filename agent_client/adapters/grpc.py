"""Tokens for gRPC, with threads and with asyncio.

::

    from agent_client.adapters.grpc import SyncTokenInterceptor, call_credentials

    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), call_credentials(source))
    with grpc.secure_channel("ledger.prod.example:443", credentials) as channel:
        ledger = LedgerStub(grpc.intercept_channel(channel, SyncTokenInterceptor(source)))

:func:`call_credentials` alone presents tokens. The interceptor beside them replaces one that the server calls invalid,
once, and raises typed errors. gRPC sends call credentials over a channel that is private, and over no other.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from agent_client.adapters.bearer import bearer
from agent_client.adapters.call_status import Ended, verdict_of_call
from agent_client.adapters.response import obey
from agent_client.adapters.sources import async_source, is_async, sync_source
from agent_client.errors import ClientClosed, IssuerRequestError
from agent_client.workload_api_errors import WorkloadApiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from agent_client.adapters.sources import AsyncSource, Source, SyncSource
    from agent_client.answers import IssuedToken

    GiveMetadata = Callable[[tuple[tuple[str, str], ...], Exception | None], None]

SHORTEST_DEADLINE = 0.001
"""Seconds for a second call when the first has used up the time: it ends at once, with DEADLINE_EXCEEDED."""


def call_credentials(source: Source) -> grpc.CallCredentials:
    """Return what presents a token with each call, for channels of ``grpc`` and of ``grpc.aio``.

    A source of ``IssuerClient`` is asked in the event loop that this is called in. Use its channel there, with
    ``grpc.aio``: a blocking call would keep the loop from getting the token.

    A call for which there is no token ends with UNAVAILABLE, and its text says why. The same from the interceptor is
    the source's own error, so have both.

    Raises:
        RuntimeError: The source is one for an event loop, and none is running here.
    """
    plugin = _LoopPlugin(source, asyncio.get_running_loop()) if is_async(source) else _ThreadPlugin(source)
    return grpc.metadata_call_credentials(plugin, "spiffe-issuer")


class SyncTokenInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Replaces, beside :func:`call_credentials` of the same source, a token that the server calls invalid, once.

    It reads what the interceptors of :mod:`agent_client.verification` answer, and looks at calls with one request and
    one response; others pass. The call's timeout is for both tries. ``.future()`` returns when the call has ended.

    Calls raise, besides ``grpc.RpcError``, :class:`~agent_client.resource_errors.ResourceRefused` and what the source
    raises.

    Raises:
        TypeError: The source is one for an event loop.
    """

    def __init__(self, source: SyncSource) -> None:
        self._source = sync_source(source, "grpc.Channel")

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: Any,  # noqa: ANN401 - gRPC has no types
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Make a call, once or twice; called by gRPC."""
        details = _Details.of(client_call_details)
        # The token that the credentials are about to send. Should the source have another by then, invalidate does
        # nothing, and the second call carries that one.
        issued = self._source.get()
        call = continuation(details, request)
        if obey(verdict_of_call(_ended(call), issued.token, retried=False), self._source, issued):
            fresh = self._source.get()
            if fresh is not issued:
                call = continuation(details.with_time_left(), request)
            obey(verdict_of_call(_ended(call), fresh.token, retried=True), self._source, fresh)
        return call


class TokenInterceptor(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """What :class:`SyncTokenInterceptor` is, for ``grpc.aio``.

    Raises:
        TypeError: The source is one for threads.
    """

    def __init__(self, source: AsyncSource) -> None:
        self._source = async_source(source, "grpc.aio.Channel")

    async def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: Any,  # noqa: ANN401 - gRPC has no types
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Make a call, once or twice; called by gRPC."""
        details = _Details.of(client_call_details)
        issued = await self._source.get()  # as above
        call = await continuation(details, request)
        if obey(verdict_of_call(await _aio_ended(call), issued.token, retried=False), self._source, issued):
            fresh = await self._source.get()
            if fresh is not issued:
                call = await continuation(details.with_time_left(), request)
            obey(verdict_of_call(await _aio_ended(call), fresh.token, retried=True), self._source, fresh)
        return call


class _ThreadPlugin(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    """Called by gRPC in a thread of its own for each call, which may wait."""

    def __init__(self, source: SyncSource) -> None:
        self._source = source

    def __call__(self, _: grpc.AuthMetadataContext, give: GiveMetadata) -> None:
        try:
            issued = self._source.get()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call
            give((), _no_token(error))
        else:
            give(_metadata(issued), None)


class _LoopPlugin(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    """Called by gRPC in a thread, it asks the source in its event loop, and waits nowhere."""

    def __init__(self, source: AsyncSource, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop

    def __call__(self, _: grpc.AuthMetadataContext, give: GiveMetadata) -> None:
        asking = self._ask()
        try:
            future = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError as error:
            asking.close()
            give((), _no_token(error, "the event loop of its source has ended"))
        else:
            future.add_done_callback(lambda done: _give(done, give))

    async def _ask(self) -> IssuedToken:
        return await self._source.get()


def _give(done: Future[IssuedToken], give: GiveMetadata) -> None:
    try:
        issued = done.result()
    except Exception as error:  # noqa: BLE001 - as above
        give((), _no_token(error))
    else:
        give(_metadata(issued), None)


class _NoToken(Exception):
    """Its text becomes that of the call's status."""


def _no_token(error: Exception, why: str | None = None) -> _NoToken:
    """Return what the call's status says. The texts of our own errors are known to hold no secret."""
    own = isinstance(error, IssuerRequestError | WorkloadApiError | ClientClosed)
    return _NoToken(f"there is no token for this call: {why or (str(error) if own else type(error).__name__)}")


def _metadata(issued: IssuedToken) -> tuple[tuple[str, str], ...]:
    return (("authorization", bearer(issued)),)


class _Details(NamedTuple):
    """What gRPC calls ClientCallDetails, whose own classes are private; and when the call has to end."""

    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any
    end: float | None

    @classmethod
    def of(cls, details: Any) -> _Details:  # noqa: ANN401 - as above
        timeout = details.timeout
        return cls(
            method=details.method,
            timeout=timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=getattr(details, "compression", None),
            end=None if timeout is None else time.monotonic() + timeout,
        )

    def with_time_left(self) -> _Details:
        if self.end is None:
            return self
        return self._replace(timeout=max(self.end - time.monotonic(), SHORTEST_DEADLINE))


def _ended(call: Any) -> Ended:  # noqa: ANN401 - as above
    return _end_of(call.code(), call.details(), call.trailing_metadata())


async def _aio_ended(call: Any) -> Ended:  # noqa: ANN401 - as above
    return _end_of(await call.code(), await call.details(), await call.trailing_metadata())


def _end_of(code: grpc.StatusCode, text: str | None, trailers: Any) -> Ended:  # noqa: ANN401 - as above
    return Ended(code.value[0], text or "", tuple((key, value) for key, value in trailers or ()))
