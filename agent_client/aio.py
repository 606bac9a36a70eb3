"""The issuer's client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import grpc.aio

from agent_client import exchanges
from agent_client.balancer import Attempt
from agent_client.client import ClientCore
from agent_client.clock import elapsed, utc_now
from agent_client.endpoint import ISSUER_DNS_NAME
from agent_client.errors import ClientClosed, IssuerRequestError
from agent_client.exchanges import Circumstances
from agent_client.failures import CallStatus, failure_of_call
from agent_client.intent_calls import IntentCalls
from agent_client.requests import TokenRequest
from agent_client.retry import DEFAULT_TIMEOUT, SHORTEST_DEADLINE
from agent_client.tokens.aio import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from google.protobuf.message import Message

    from agent_client.answers import Access, IssuedToken, KeySet
    from agent_client.credentials import ChannelMaterial
    from agent_client.exchanges import Exchange
    from agent_client.failover import Course
    from agent_client.requests import Intent
    from agent_client.tokens.aio import TokenSource
    from agent_client.tokens.entry import Arrival
    from agent_client.workload_api import X509Context, X509Svid

Answer = TypeVar("Answer")


class IssuerClient(IntentCalls):
    """Asks the issuer for tokens, as the workload that this process is. For one event loop.

    Usable as soon as it is made; close it, or use it with ``async with``. The first call waits for the Workload API. A
    new SVID and new trust bundles are taken up by the next call, and calls under way end on the connection they have.

    Of several addresses, a call takes the one with the least calls under way, and the next one where that is
    unavailable, or does not prove to be the issuer, or does not answer while others might. A DNS name that stands for
    several issuers is one address, and gRPC takes them in turn.

    A client that was made and not used yet may be taken through a fork. Used ones raise
    :class:`~agent_client.errors.ClientForked` in the child, at once.

    Each call takes ``timeout`` seconds at most, retries included. Only an issuer that is unavailable is asked again, or
    whose limit was reached and that says when to come back: not before, and only if that is within the timeout. Asking
    again is safe. Besides what each method names, a call raises

    - :class:`~agent_client.errors.IssuerRequestError`: a subclass says why there is no answer, and what to do;
    - :class:`~agent_client.workload_api_errors.WorkloadApiError`: there is no identity to call with;
    - :class:`~agent_client.errors.ClientClosed`: the client was closed before or during the call.

    Args:
        address: ``host:port`` of the issuer; several with commas between, or a sequence of them, where it has several
            addresses, all alike. Without it, ``SPIFFE_ISSUER_ADDRESS`` decides.
        workload_api: The Workload API's socket, ``unix:///path``; without it, ``SPIFFE_ENDPOINT_SOCKET`` decides.
        spiffe_id: Which identity to call with, where there are several: its exact SPIFFE ID. Without it, the default.
        issuer_dns_name: The DNS name by which the issuer is recognised: that of its registration entry.
        issuer_trust_domain: The issuer's trust domain, where the caller's own is another.
        timeout: Seconds for a call that names none.

    Raises:
        ClientNotConfigured: The issuer's address, name or trust domain is missing or malformed.
        WorkloadApiNotConfigured: The socket is.
        ValueError: The timeout is not positive.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        *,
        workload_api: str | None = None,
        spiffe_id: str | None = None,
        issuer_dns_name: str = ISSUER_DNS_NAME,
        issuer_trust_domain: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._core: ClientCore[grpc.aio.Channel] = ClientCore(
            address,
            grpc.aio.secure_channel,
            workload_api=workload_api,
            spiffe_id=spiffe_id,
            issuer_dns_name=issuer_dns_name,
            issuer_trust_domain=issuer_trust_domain,
            timeout=timeout,
        )
        self._tokens = Tokens(self._issue_kept, self._core.timeout, lambda: self._core.caller)
        self._core.on_fork(self._tokens.forget)
        self._first_context = asyncio.Event()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def svid(self) -> X509Svid:
        """The identity that the next call is made with.

        Raises:
            WorkloadApiError: There is none yet.
        """
        return self._core.svid(utc_now())

    async def issue_token(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        allow_partial: bool = False,
        validate_only: bool = False,
        intent: Intent | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the retries too, and travels to the issuer
    ) -> IssuedToken:
        """Ask for one token; the arguments are those of :class:`~agent_client.requests.TokenRequest`.

        The token is checked to be the one asked for. Its signature is **not** verified.
        """
        request = TokenRequest(
            audience, scopes, ttl, application, bind_certificate, allow_partial, validate_only, intent
        )
        return await self._call(exchanges.issue_token(request), timeout)

    def tokens_for(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        allow_partial: bool = False,
        intent: Intent | None = None,
        keep_fresh: bool = False,
    ) -> TokenSource:
        """Return a source of tokens for one API: it keeps a good one, renews it, and asks once for all who need it.

        All sources of one client that ask for the same share one token. The arguments are those of
        :class:`~agent_client.requests.TokenRequest`. What is used is renewed in the background, and with ``keep_fresh``
        also what nobody asks for. What an intent paid for is not: each operation asks for itself.
        """
        request = TokenRequest(audience, scopes, ttl, application, bind_certificate, allow_partial, intent=intent)
        return self._tokens.source(request, keep_fresh=keep_fresh)

    async def issue_tokens(
        self,
        requests: Sequence[TokenRequest],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> list[IssuedToken | IssuerRequestError]:
        """Ask for 1 to 256 tokens in one call. Each has its own result, in order: a token, or why there is none."""
        return await self._call(exchanges.issue_tokens(tuple(requests)), timeout)

    async def list_access(self, *, timeout: float | None = None) -> list[Access]:  # noqa: ASYNC109 - as above
        """Return what this workload may ask for, by the policy in force."""
        return await self._call(exchanges.list_access(), timeout)

    async def get_key_set(self, *, timeout: float | None = None) -> KeySet:  # noqa: ASYNC109 - as above
        """Return the public keys that verify the issuer's tokens."""
        return await self._call(exchanges.get_key_set(), timeout)

    async def close(self) -> None:
        """End the calls under way, and give back every thread and connection. Closing twice does nothing."""
        self._tokens.close()
        for channel in self._core.close():
            await channel.close()  # without a grace, it does not suspend: none is forgotten by a cancellation
        # Whoever waits learns that the client is closed.
        self._first_context.set()
        self._closing.set()
        # In a thread, since it waits for the watcher's.
        stopping = asyncio.ensure_future(asyncio.to_thread(self._core.stop_watching))
        try:
            await asyncio.shield(stopping)
        finally:  # whoever cancels this does not leave the watcher running
            await stopping
            await self._tokens.ended()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            for follow in (self._first_context.set, self._tokens.caller_changed):
                self._core.subscribe(functools.partial(_call_threadsafe, loop, follow))
            self._loop = loop
        self._core.start()
        self._tokens.enter_loop()

    async def _issue_kept(self, request: TokenRequest, seconds: float) -> Arrival:
        return await self._call(exchanges.kept_token(request), max(seconds, SHORTEST_DEADLINE))

    async def _call(self, exchange: Exchange[Answer], timeout: float | None) -> Answer:  # noqa: ASYNC109 - as above
        course = self._core.course(timeout)
        while True:
            attempt = Attempt()
            try:
                return await self._attempt(exchange, course, attempt)
            except IssuerRequestError as failure:
                pause = self._core.failed(course, attempt, failure)
                if pause is None:
                    # Without the frames below: they have the issuer's answer, and what shows locals would show a token.
                    raise course.verdict(failure).with_traceback(None) from failure.__cause__
            await self._pause(pause)

    async def _attempt(self, exchange: Exchange[Answer], course: Course, attempt: Attempt) -> Answer:
        material = await self._material(course.end)
        sent_at = elapsed()
        try:
            response = await self._send(self._core.begin(course, attempt, material), exchange, attempt)
        finally:
            for channel in self._core.end(attempt):
                await channel.close()
        answer = exchange.read(response, Circumstances(material.caller, sent_at, utc_now()))
        self._core.succeeded(attempt)
        return answer

    async def _send(self, channel: grpc.aio.Channel, exchange: Exchange[Answer], attempt: Attempt) -> Message:
        method = channel.unary_unary(exchange.method, exchanges.serialize, exchange.parse)
        try:
            response: Message = await method(exchange.message, timeout=max(attempt.seconds, SHORTEST_DEADLINE))
        except grpc.aio.AioRpcError as error:
            ended = CallStatus(error.code().value[0], error.details() or "", tuple(error.trailing_metadata()))
            raise failure_of_call(ended, attempt.address) from error
        except asyncio.CancelledError as error:
            # gRPC ends the calls of a closed channel as if their tasks had been cancelled.
            task = asyncio.current_task()
            if self._core.closed and task is not None and not task.cancelling():
                raise ClientClosed("this client was closed during the call") from error
            raise
        return response

    async def _material(self, end: float) -> ChannelMaterial:
        self._start()
        if not self._first_context.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end - time.monotonic()):
                    await self._first_context.wait()
        return self._core.material(utc_now())

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def _call_threadsafe(loop: asyncio.AbstractEventLoop, follow: Callable[[], None], _: X509Context) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
        loop.call_soon_threadsafe(follow)
