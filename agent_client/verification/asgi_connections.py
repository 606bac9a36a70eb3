"""The two kinds of ASGI connection that have callers, and how each is told of a refusal."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from agent_client.verification.current import NoCurrentToken
from agent_client.verification.refusal_log import log_refusal
from agent_client.verification.request_errors import RAISED_BY_HANDLERS, TokenMissing

if TYPE_CHECKING:
    from agent_client.verification.errors import VerificationError
    from agent_client.verification.http_answers import HttpAnswer, HttpRefusals
    from agent_client.verification.verified_token import VerifiedToken

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION = 1008
"""The close code of RFC 6455 section 7.4.1 for a peer that may not do what it wants."""
_SERVER_ERROR = 500


class Connection(ABC):
    """One connection. The application gets :attr:`receive` and :meth:`send` in place of the server's.

    Attributes:
        scope: What the server says of it.
        token: The caller's, once it is verified.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, refusals: HttpRefusals) -> None:
        self.scope = scope
        self.receive = receive
        self.token: VerifiedToken | None = None
        self._send = send
        self._refusals = refusals
        self._refused = False

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""

    async def refuse(self, error: VerificationError) -> bool:
        """Log the refusal and tell the caller, unless that is too late or done; return whether it has been told."""
        if not self._refused and self._can_refuse():
            self._refused = True
            asked = f"{self.scope.get('method', 'WEBSOCKET')} {self.scope['path']}"
            peer = (self.scope.get("client") or ("unknown",))[0]
            log_refusal(error, asked=asked, peer=str(peer), token=self.token)
            await self._tell(error)
        return self._refused

    async def refuse_for(self, raised: BaseException | None) -> bool:
        """Refuse if what the application raised asks for it; return whether the caller has been told."""
        if isinstance(raised, RAISED_BY_HANDLERS):
            return await self.refuse(raised)
        if isinstance(raised, NoCurrentToken) and self.token is None:  # a public path that needs a token after all
            return await self.refuse(TokenMissing())
        return False

    @abstractmethod
    def _can_refuse(self) -> bool: ...

    @abstractmethod
    async def _tell(self, error: VerificationError) -> None: ...


class HttpConnection(Connection):
    """One HTTP request."""

    _started = False

    async def send(self, message: Message) -> None:
        """Pass on what the application sends, except for the error page of a refusal that it did not handle.

        Starlette's outermost layer answers every exception with 500 before it passes it on, so the exception itself
        would come too late. While it is being handled there, it is the current one here.
        """
        if self._refused:
            return
        if (
            message["type"] == "http.response.start"
            and message["status"] >= _SERVER_ERROR
            and await self.refuse_for(sys.exception())
        ):
            return
        self._started = True
        await self._send(message)

    def _can_refuse(self) -> bool:
        return not self._started

    async def _tell(self, error: VerificationError) -> None:
        await send_answer(self._send, self._refusals.answer(error))


class WebsocketConnection(Connection):
    """One websocket, from its handshake on."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, refusals: HttpRefusals) -> None:
        super().__init__(scope, self._take, send, refusals)
        self._server_receive = receive
        self._shaking_hands = self._accepted = self._ended = False

    async def send(self, message: Message) -> None:
        """Pass on what the application sends, until the websocket was closed over its head."""
        if self._refused:
            return
        self._accepted |= message["type"] == "websocket.accept"
        self._ended |= message["type"] in {"websocket.close", "websocket.http.response.start"}
        await self._send(message)

    async def _take(self) -> Message:
        message = await self._server_receive()
        self._shaking_hands = True
        self._ended |= message["type"] == "websocket.disconnect"
        return message

    def _can_refuse(self) -> bool:
        return not self._ended

    async def _tell(self, error: VerificationError) -> None:
        """Answer the handshake, or close what was accepted; a close before that makes the server answer 403."""
        if not self._shaking_hands:
            await self._take()  # the first event is due before any answer
        if self._ended:
            return
        self._ended = True
        if not self._accepted and "websocket.http.response" in (self.scope.get("extensions") or {}):
            await send_answer(self._send, self._refusals.answer(error), kind="websocket.http.response")
        else:
            reason = error.oauth_error or ""
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})


async def send_answer(send: Send, answer: HttpAnswer, *, kind: str = "http.response") -> None:
    """Send one whole answer."""
    await send({"type": f"{kind}.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": f"{kind}.body", "body": answer.body, "more_body": False})
