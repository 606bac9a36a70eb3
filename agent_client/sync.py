"""The issuer's client for threads: what :mod:`agent_client.aio` is for asyncio."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from agent_client import exchanges
from agent_client.access import AccessRequest, SyncAccess, complete_access, start_access
from agent_client.approvals import PAUSE_SECONDS, WAIT_SECONDS
from agent_client.balancer import Attempt
from agent_client.client import ClientCore
from agent_client.clock import elapsed, utc_now
from agent_client.endpoint import ISSUER_DNS_NAME
from agent_client.errors import ClientClosed, IssuerRequestError, IssuerUnavailable
from agent_client.exchanges import Circumstances
from agent_client.failures import CallStatus, failure_of_call
from agent_client.following import Following
from agent_client.intent_calls import SyncIntentCalls
from agent_client.requests import TokenRequest
from agent_client.retry import DEFAULT_TIMEOUT, SHORTEST_DEADLINE, checked_timeout
from agent_client.tokens.sync import SyncTokens
from agent_client.workload_api_errors import WorkloadApiError

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    from agent_client.tokens.entry import Arrival
    from agent_client.tokens.sync import SyncTokenSource
    from agent_client.workload_api import X509Svid

Answer = TypeVar("Answer")


class SyncIssuerClient(SyncIntentCalls):
    """Asks the issuer for tokens, as the workload that this process is. Thread-safe.

    Arguments, methods and errors are those of :class:`~agent_client.aio.IssuerClient`. Close it, or use it with
    ``with``.
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
        self._core: ClientCore[grpc.Channel] = ClientCore(
            address,
            grpc.secure_channel,
            workload_api=workload_api,
            spiffe_id=spiffe_id,
            issuer_dns_name=issuer_dns_name,
            issuer_trust_domain=issuer_trust_domain,
            timeout=timeout,
        )
        self._tokens = SyncTokens(self._issue_kept, self._core.timeout, lambda: self._core.caller)
        self._core.subscribe(lambda _: self._tokens.caller_changed())
        self._core.on_fork(self._tokens.forget)

    @property
    def svid(self) -> X509Svid:
        """The identity that the next call is made with.

        Raises:
            WorkloadApiError: There is none yet.
        """
        return self._core.svid(utc_now())

    def issue_token(
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
        timeout: float | None = None,
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
        return self._call(exchanges.issue_token(request), timeout)

    def exchange_token(
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
        timeout: float | None = None,
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
        return self._call(exchanges.issue_token(request), timeout)

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
    ) -> SyncTokenSource:
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

    def start_access(
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
        timeout: float | None = None,
    ) -> SyncAccess:
        """Start access for a while, for a reason; use it with ``with``, which completes it.

        ::

            with issuer.start_access("https://ledger.example", ["ledger.fix"], reason="incident 7") as access:
                ledger = access.tokens_for(["ledger.fix"])

        The arguments are those of :class:`~agent_client.access.AccessRequest`.

        Raises:
            ApprovalRequired: People have to approve it first; with ``request_approval`` they are asked.
        """
        request = AccessRequest(
            audience, scopes, reason, duration, application, bind_certificate, intent, request_approval
        )
        return SyncAccess(self._call(start_access(request), timeout), self._complete_access, self._tokens)

    def _complete_access(self, name: str, timeout: float | None) -> AccessWindow:
        return self._call(complete_access(name), timeout)

    def issue_tokens(
        self, requests: Sequence[TokenRequest], *, timeout: float | None = None
    ) -> list[IssuedToken | IssuerRequestError]:
        """Ask for 1 to 256 tokens in one call. Each has its own result, in order: a token, or why there is none."""
        return self._call(exchanges.issue_tokens(tuple(requests)), timeout)

    def request_approval(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        intent: Intent | None = None,
        reason: str = "",
        timeout: float | None = None,
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
        return self._call(exchanges.create_approval_request(request, reason), timeout)

    def wait_for_approval(self, name: str, *, timeout: float) -> ApprovalRequest:
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
                found = self._call(exchange, min(left, WAIT_SECONDS))
            except IssuerUnavailable:
                if time.monotonic() + PAUSE_SECONDS >= end:
                    raise
            else:
                if found.approved:
                    self._tokens.people_approved()
                if found.decided or time.monotonic() >= end:
                    return found
            self._core.closing.wait(min(PAUSE_SECONDS, max(end - time.monotonic(), 0)))

    def cancel_approval(self, name: str, *, timeout: float | None = None) -> ApprovalRequest:
        """Take back a request for approval of this workload, and what was approved of it; return how it stands."""
        return self._call(exchanges.cancel_approval_request(name), timeout)

    def list_access(self, *, timeout: float | None = None) -> list[Access]:
        """Return what this workload may ask for, by the policy in force."""
        return self._call(exchanges.list_access(), timeout)

    def get_key_set(self, *, timeout: float | None = None) -> KeySet:
        """Return the public keys that verify the issuer's tokens."""
        return self._call(exchanges.get_key_set(), timeout)

    def follow(self, exchange: Exchange[Answer]) -> Following[Answer]:
        """Return a stream of answers, not begun yet. What needs one begins it again when it ends.

        :class:`~agent_client.verification.RevocationStream` does.
        """
        return Following(self._core, self._material, exchange)

    def close(self) -> None:
        """End the calls under way, and give back every thread and connection. Closing twice does nothing."""
        self._tokens.close()
        for channel in self._core.close():
            channel.close()
        self._core.stop_watching()

    def __enter__(self) -> Self:
        self._core.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _issue_kept(self, request: TokenRequest, seconds: float) -> Arrival:
        return self._call(exchanges.kept_token(request), max(seconds, SHORTEST_DEADLINE))

    def _call(self, exchange: Exchange[Answer], timeout: float | None) -> Answer:
        course = self._core.course(timeout)
        while True:
            attempt = Attempt()
            try:
                return self._attempt(exchange, course, attempt)
            except IssuerRequestError as failure:
                pause = self._core.failed(course, attempt, failure)
                if pause is None:
                    # Without the frames below: they have the issuer's answer, and what shows locals would show a token.
                    raise course.verdict(failure).with_traceback(None) from failure.__cause__
            self._core.closing.wait(pause)

    def _attempt(self, exchange: Exchange[Answer], course: Course, attempt: Attempt) -> Answer:
        material = self._material(course.end)
        sent_at = elapsed()
        try:
            response = self._send(self._core.begin(course, attempt, material), exchange, attempt)
        finally:
            for channel in self._core.end(attempt):
                channel.close()
        answer = exchange.read(response, Circumstances(material.caller, sent_at, utc_now()))
        self._core.succeeded(attempt)
        return answer

    def _send(self, channel: grpc.Channel, exchange: Exchange[Answer], attempt: Attempt) -> Message:
        try:
            return _answer(channel, exchange, max(attempt.seconds, SHORTEST_DEADLINE))
        except grpc.RpcError as error:
            if self._core.closed:
                raise ClientClosed("this client was closed during the call") from error
            ended = CallStatus(error.code().value[0], error.details() or "", tuple(error.trailing_metadata() or ()))
            raise failure_of_call(ended, attempt.address) from error
        except ValueError as error:
            # gRPC's answer to a call on a channel that was closed since it was leased.
            if self._core.closed:
                raise ClientClosed("this client was closed during the call") from error
            raise

    def _material(self, end: float) -> ChannelMaterial:
        try:
            self._core.start().wait_for_first(max(end - time.monotonic(), 0))
        except WorkloadApiError as error:
            if self._core.closed:
                raise ClientClosed("this client was closed during the call") from error
            raise
        return self._core.material(utc_now())


def _answer(channel: grpc.Channel, exchange: Exchange[Answer], seconds: float) -> Message:
    """Return the answer to a call; of a stream the last one before its end, or before the deadline."""
    if not exchange.streams:
        method = channel.unary_unary(exchange.method, exchanges.serialize, exchange.parse)
        response: Message = method(exchange.message, timeout=seconds)
        return response
    last: Message | None = None
    stream = channel.unary_stream(exchange.method, exchanges.serialize, exchange.parse)
    try:
        for last in stream(exchange.message, timeout=seconds):  # noqa: B007 - it is what is left of the stream
            pass
    except grpc.RpcError as error:
        if last is None or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    if last is None:
        raise IssuerUnavailable("the issuer ended a stream without an answer")
    return last
