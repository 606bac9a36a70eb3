"""Just-in-time access: for one window, with a reason. Its tokens are kept and renewed like others, while it is open.

The issuer ends a window by itself when it is over, or when what it rested on is no longer so (a ticket, a risk, a
policy); its tokens are dead then, and asking for another raises :class:`~agent_client.errors.AccessEnded`.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from agent_client.errors import AnswerRejected, InvalidTokenRequest, IssuerRequestError
from agent_client.exchanges import Exchange
from agent_client.requests import TokenRequest, duration_to_proto, intent_to_proto
from issuer_api.v1 import access_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2 as issuer_pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from agent_client.requests import Intent
    from agent_client.tokens.aio import Tokens, TokenSource
    from agent_client.tokens.sync import SyncTokens, SyncTokenSource

_SERVICE = pb.DESCRIPTOR.services_by_name["AccessService"].full_name
_logger = logging.getLogger("agent_client")


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Access that a workload asks for. The issuer checks it; only types are looked at here.

    Attributes:
        audience: To which API, exactly as policy names it.
        scopes: What it should allow there, 1 to 32 names; all or none are granted. Kept as a tuple.
        reason: Why it is needed now, for those who read the ledger; at most 512 printable characters.
        duration: For how long; ``None`` for as long as policy lets, which may also shorten it.
        application: On whose behalf the workload acts; needed where policy lets it serve several.
        bind_certificate: Ask for tokens that only work together with this workload's certificate (RFC 8705).
        intent: What it is for. The ticket that it names must stay approved, where policy asks for one.
        request_approval: Where people have to approve it, ask them.
        request_id: Makes the same call again the same window; made up where it is not given.

    Raises:
        TypeError: ``scopes`` is one string, whose letters would be taken for scopes, or ``duration`` is a bare number.
    """

    audience: str
    scopes: Sequence[str]
    reason: str
    duration: timedelta | None = None
    application: str | None = None
    bind_certificate: bool = False
    intent: Intent | None = None
    request_approval: bool = False
    request_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def __post_init__(self) -> None:
        TokenRequest(self.audience, self.scopes, self.duration)  # raises what is to be raised
        object.__setattr__(self, "scopes", tuple(self.scopes))


@dataclass(frozen=True, slots=True)
class AccessWindow:
    """A window of access.

    Attributes:
        name: ``accessWindows/`` and an id, which its tokens carry as ``grant_id``.
        audience: To which API.
        application: On whose behalf; ``None`` for none.
        scopes: What it allows there.
        bind_certificate: Its tokens are bound to this workload's certificate.
        ends_at: When it ends at the latest (UTC), by the issuer's clock.
        state: ``open``, or how it ended: ``completed``, ``expired``, ``svid_expired``, ``ended``, ``refused``,
            ``revoked``.
        ended_reason: Why; empty where the state says all.
    """

    name: str
    audience: str
    application: str | None
    scopes: tuple[str, ...]
    bind_certificate: bool
    ends_at: datetime
    state: str
    ended_reason: str


def start_access(request: AccessRequest) -> Exchange[AccessWindow]:
    """Return the exchange that starts access.

    Raises:
        InvalidTokenRequest: A text of it cannot be sent, being no Unicode.
    """
    try:
        message = pb.StartAccessRequest(
            audience=request.audience,
            scopes=request.scopes,
            reason=request.reason,
            application=request.application or "",
            duration=None if request.duration is None else duration_to_proto(request.duration),
            intent=None if request.intent is None else intent_to_proto(request.intent),
            request_id=request.request_id,
            request_approval=request.request_approval,
        )
    except UnicodeEncodeError as error:
        raise InvalidTokenRequest("the request has a text that is no Unicode") from error
    if request.bind_certificate:
        message.proof_binding = issuer_pb.PROOF_BINDING_TLS_CERTIFICATE
    return Exchange(
        f"/{_SERVICE}/StartAccess",
        message,
        pb.StartAccessResponse.FromString,
        lambda answer, _: _started(answer.access_window, request),
    )


def complete_access(name: str) -> Exchange[AccessWindow]:
    """Return the exchange that completes access; for a window that is over it changes nothing."""
    return Exchange(
        f"/{_SERVICE}/CompleteAccess",
        pb.CompleteAccessRequest(name=name),
        pb.CompleteAccessResponse.FromString,
        lambda answer, _: _window(answer.access_window),
    )


class SyncAccess:
    """A window of access that was started; ``with`` completes it. Made by ``SyncIssuerClient.start_access``.

    Attributes:
        window: As it was when it was started, or completed.
    """

    def __init__(
        self, window: AccessWindow, complete: Callable[[str, float | None], AccessWindow], tokens: SyncTokens
    ) -> None:
        self.window = window
        self._complete = complete
        self._tokens = tokens

    def tokens_for(
        self, scopes: Sequence[str] | None = None, *, ttl: timedelta | None = None, keep_fresh: bool = False
    ) -> SyncTokenSource:
        """Return a source of tokens under this window: a good one is kept, and renewed while the window is open.

        Args:
            scopes: Some of the window's; ``None`` for all.
            ttl: The lifetime asked for; ``None`` for the longest.
            keep_fresh: Renew it also where nobody asks for it.
        """
        return self._tokens.source(_token_request(self.window, scopes, ttl), keep_fresh=keep_fresh)

    def complete(self, *, timeout: float | None = None) -> AccessWindow:
        """End it, because what it was for is done: its tokens are dead when this returns. Again changes nothing."""
        self._tokens.access_ended(self.window.name)
        self.window = self._complete(self.window.name, timeout)
        return self.window

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.complete()
        except IssuerRequestError as failure:
            if error is None:
                raise
            _log_open(self.window, failure)


class AsyncAccess:
    """A window of access that was started; ``async with`` completes it. Made by ``IssuerClient.start_access``.

    Attributes:
        window: As it was when it was started, or completed.
    """

    def __init__(
        self, window: AccessWindow, complete: Callable[[str, float | None], Awaitable[AccessWindow]], tokens: Tokens
    ) -> None:
        self.window = window
        self._complete = complete
        self._tokens = tokens

    def tokens_for(
        self, scopes: Sequence[str] | None = None, *, ttl: timedelta | None = None, keep_fresh: bool = False
    ) -> TokenSource:
        """Return a source of tokens under this window; all of :meth:`SyncAccess.tokens_for` holds here."""
        return self._tokens.source(_token_request(self.window, scopes, ttl), keep_fresh=keep_fresh)

    async def complete(self, *, timeout: float | None = None) -> AccessWindow:  # noqa: ASYNC109 - the call's deadline
        """End it, because what it was for is done: its tokens are dead when this returns. Again changes nothing."""
        self._tokens.access_ended(self.window.name)
        self.window = await self._complete(self.window.name, timeout)
        return self.window

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.complete()
        except IssuerRequestError as failure:
            if error is None:
                raise
            _log_open(self.window, failure)


def _token_request(window: AccessWindow, scopes: Sequence[str] | None, ttl: timedelta | None) -> TokenRequest:
    wanted = window.scopes if scopes is None else scopes
    return TokenRequest(
        window.audience,
        wanted,
        ttl,
        application=window.application,
        bind_certificate=window.bind_certificate,
        access=window.name,
    )


def _started(message: pb.AccessWindow, request: AccessRequest) -> AccessWindow:
    window = _window(message)
    fits = (
        window.audience == request.audience
        and window.scopes == request.scopes
        and request.application in (None, window.application)
        and window.bind_certificate >= request.bind_certificate
    )
    if not fits:
        raise AnswerRejected("the issuer's answer is unusable: its window of access is not the one that was asked for")
    return window


def _window(message: pb.AccessWindow) -> AccessWindow:
    try:
        state, ends_at = pb.AccessWindow.State.Name(message.state), message.window_end_time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        state, ends_at = "", datetime.min.replace(tzinfo=UTC)
    if not message.name.startswith("accessWindows/") or not state:
        raise AnswerRejected("the issuer's answer is unusable: it tells of no window of access that can be read")
    return AccessWindow(
        name=message.name,
        audience=message.audience,
        application=message.application or None,
        scopes=tuple(message.scopes),
        bind_certificate=message.bind_certificate,
        ends_at=ends_at,
        state=state.removeprefix("STATE_").lower(),
        ended_reason=message.ended_reason,
    )


def _log_open(window: AccessWindow, failure: IssuerRequestError) -> None:
    _logger.warning("%s could not be completed, and ends by itself at %s: %s", window.name, window.ends_at, failure)
