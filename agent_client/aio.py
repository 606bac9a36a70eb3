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
from agent_client.access import AccessRequest, AsyncAccess, complete_access, start_access
from agent_client.approvals import PAUSE_SECONDS, WAIT_SECONDS
from agent_client.balancer import Attempt
from agent_client.client import ClientCore
from agent_client.clock import elapsed, utc_now
from agent_client.endpoint import ISSUER_DNS_NAME
from agent_client.errors import ClientClosed, IssuerRequestError, IssuerUnavailable
from agent_client.exchanges import Circumstances
from agent_client.failures import CallStatus, failure_of_call
from agent_client.following_aio import follow
from agent_client.intent_calls import IntentCalls
from agent_client.requests import TokenRequest
from agent_client.retry import DEFAULT_TIMEOUT, SHORTEST_DEADLINE, checked_timeout
from agent_client.tokens.aio import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import timedelta

    from google.protobuf.message import Message

    from agent_client.access import AccessWindow
    from agent_client.answers import Access, IssuedToken, KeySet
    from agent_client.approvals import ApprovalRequest
    from agent_client.credentials import ChannelMaterial
    from agent_client.exchanges import Exchange
    from agent_client.failover import Course
    from agent_client.requests import Intent
    from agent_client.subject_token import SubjectToken
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
        request_approval: bool = False,
        approval_reason: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the retries too, and travels to the issuer
    ) -> IssuedToken:
        """Ask for one token; the arguments are those of :class:`~agent_client.requests.TokenRequest`.

        The token is checked to be the one asked for. Its signature is **not** verified.

        Where people have to approve it first, :class:`~agent_client.errors.ApprovalRequired` names what was asked of
        them, with ``request_approval``: give that to :meth:`wait_for_approval`, and ask for the same again.
        """
        request = TokenRequest(
            audience,
            scopes,
            ttl,
            application,
            bind_certificate,
            allow_partial,
            validate_only,
            intent,
            request_approval,
            approval_reason,
        )
        return await self._call(exchanges.issue_token(request), timeout)

    async def exchange_token(
        self,
        on_behalf_of: SubjectToken,
        audience: str,
        scopes: Sequence[str],
        *,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        allow_partial: bool = False,
        validate_only: bool = False,
        intent: Intent | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> IssuedToken:
        """Ask for one token on behalf of another, whose token this workload was given (RFC 8693).

        The other arguments are those of :class:`~agent_client.requests.TokenRequest`. What the answer says of subject
        and actor is checked as well. No signature is verified, neither of the subject token nor of the answer's.
        """
        request = TokenRequest(
            audience,
            scopes,
            ttl,
            application,
            bind_certificate,
            allow_partial,
            validate_only,
            intent,
            on_behalf_of=on_behalf_of,
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
        on_behalf_of: SubjectToken | None = None,
        keep_fresh: bool = False,
    ) -> TokenSource:
        """Return a source of tokens for one API: it keeps a good one, renews it, and asks once for all who need it.

        All sources of one client that ask for the same share one token. The arguments are those of
        :class:`~agent_client.requests.TokenRequest`. What is used is renewed in the background, and with ``keep_fresh``
        also what nobody asks for. What an intent or an approval paid for is not: who needs it asks for it. What is on
        behalf of another is renewed as long as the subject token lets it live longer.
        """
        request = TokenRequest(
            audience,
            scopes,
            ttl,
            application,
            bind_certificate,
            allow_partial,
            intent=intent,
            on_behalf_of=on_behalf_of,
        )
        return self._tokens.source(request, keep_fresh=keep_fresh)

    async def start_access(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        reason: str,
        duration: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        intent: Intent | None = None,
        request_approval: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> AsyncAccess:
        """Start access for a while, for a reason; use it with ``async with``, which completes it.

        ::

            access = await issuer.start_access("https://ledger.example", ["ledger.fix"], reason="incident 7")
            async with access:
                ledger = access.tokens_for(["ledger.fix"])

        The arguments are those of :class:`~agent_client.access.AccessRequest`.

        Raises:
            ApprovalRequired: People have to approve it first; with ``request_approval`` they are asked.
        """
        request = AccessRequest(
            audience, scopes, reason, duration, application, bind_certificate, intent, request_approval
        )
        return AsyncAccess(await self._call(start_access(request), timeout), self._complete_access, self._tokens)

    async def _complete_access(self, name: str, timeout: float | None) -> AccessWindow:  # noqa: ASYNC109 - as above
        return await self._call(complete_access(name), timeout)

    async def issue_tokens(
        self,
        requests: Sequence[TokenRequest],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> list[IssuedToken | IssuerRequestError]:
        """Ask for 1 to 256 tokens in one call. Each has its own result, in order: a token, or why there is none."""
        return await self._call(exchanges.issue_tokens(tuple(requests)), timeout)

    async def request_approval(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        intent: Intent | None = None,
        reason: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> ApprovalRequest:
        """Ask people to approve exactly this token, and return the request, which they may have answered already.

        What is asked for again while it is open is the same request.

        Args:
            audience: As for :meth:`issue_token`; so are those that follow.
            scopes: Those that need no approval too.
            ttl: The lifetime that the token will be asked for with.
            application: On whose behalf.
            bind_certificate: Whether it will be bound.
            intent: What it is for.
            reason: Why it is needed now, for those who decide; at most 512 printable characters.
            timeout: Seconds for the call.
        """
        request = TokenRequest(audience, scopes, ttl, application, bind_certificate, intent=intent)
        return await self._call(exchanges.create_approval_request(request, reason), timeout)

    async def wait_for_approval(self, name: str, *, timeout: float) -> ApprovalRequest:  # noqa: ASYNC109 - as above
        """Wait until a request for approval is decided, and return it; as it stands when ``timeout`` seconds are over.

        The issuer is listened to in a stream, and asked anew when that breaks, for as long as there is time. Approved
        is what :attr:`~agent_client.approvals.ApprovalRequest.approved` says; then ask for the very same token. What it
        pays for is used up by whoever asks, so kept tokens are not renewed with it in the background.
        """
        end = time.monotonic() + checked_timeout(timeout)
        exchange = exchanges.wait_approval_request(name)
        while True:
            left = max(end - time.monotonic(), SHORTEST_DEADLINE)
            try:
                found = await self._call(exchange, min(left, WAIT_SECONDS))
            except IssuerUnavailable:
                if time.monotonic() + PAUSE_SECONDS >= end:
                    raise
            else:
                if found.approved:
                    self._tokens.people_approved()
                if found.decided or time.monotonic() >= end:
                    return found
            await self._pause(min(PAUSE_SECONDS, max(end - time.monotonic(), 0)))

    async def cancel_approval(self, name: str, *, timeout: float | None = None) -> ApprovalRequest:  # noqa: ASYNC109 - as above
        """Take back a request for approval of this workload, and what was approved of it; return how it stands."""
        return await self._call(exchanges.cancel_approval_request(name), timeout)

    async def list_access(self, *, timeout: float | None = None) -> list[Access]:  # noqa: ASYNC109 - as above
        """Return what this workload may ask for, by the policy in force."""
        return await self._call(exchanges.list_access(), timeout)

    async def get_key_set(self, *, timeout: float | None = None) -> KeySet:  # noqa: ASYNC109 - as above
        """Return the public keys that verify the issuer's tokens."""
        return await self._call(exchanges.get_key_set(), timeout)

    def follow(self, exchange: Exchange[Answer], *, quiet: float) -> AsyncGenerator[Answer, None]:
        """Yield the answers of one stream. What needs one begins it again when it ends; ``quiet`` is in seconds.

        :class:`~agent_client.verification.AsyncRevocationStream` does.
        """
        return follow(self._core, self._material, exchange, quiet)

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
        try:
            return await _answer(channel, exchange, max(attempt.seconds, SHORTEST_DEADLINE))
        except grpc.aio.AioRpcError as error:
            ended = CallStatus(error.code().value[0], error.details() or "", tuple(error.trailing_metadata()))
            raise failure_of_call(ended, attempt.address) from error
        except asyncio.CancelledError as error:
            # gRPC ends the calls of a closed channel as if their tasks had been cancelled.
            task = asyncio.current_task()
            if self._core.closed and task is not None and not task.cancelling():
                raise ClientClosed("this client was closed during the call") from error
            raise

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


async def _answer(channel: grpc.aio.Channel, exchange: Exchange[Answer], seconds: float) -> Message:
    """Return the answer to a call; of a stream the last one before its end, or before the deadline."""
    if not exchange.streams:
        method = channel.unary_unary(exchange.method, exchanges.serialize, exchange.parse)
        response: Message = await method(exchange.message, timeout=seconds)
        return response
    last: Message | None = None
    stream = channel.unary_stream(exchange.method, exchanges.serialize, exchange.parse)
    try:
        async for last in stream(exchange.message, timeout=seconds):  # noqa: B007 - it is what is left of the stream
            pass
    except grpc.aio.AioRpcError as error:
        if last is None or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    if last is None:
        raise IssuerUnavailable("the issuer ended a stream without an answer")
    return last


def _call_threadsafe(loop: asyncio.AbstractEventLoop, follow: Callable[[], None], _: X509Context) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
        loop.call_soon_threadsafe(follow)
