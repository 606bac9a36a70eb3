"""An ASGI server in miniature: hands an application whatever scope a test makes up, and keeps what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_client.verification.asgi_connections import AsgiApp, Message


@dataclass
class Answer:
    """What the application sent, in order."""

    sent: list[Message] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]

    @property
    def status(self) -> int:
        starts = [message for message in self.sent if message["type"].endswith("response.start")]
        assert len(starts) == 1, self.sent
        status: int = starts[0]["status"]
        return status

    def header(self, name: str) -> str | None:
        values = [
            value.decode() for message in self.sent for key, value in message.get("headers", ()) if key == name.encode()
        ]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def problem(self) -> Any:
        assert self.header("content-type") == "application/problem+json"
        return json.loads(self.body)


def http_scope(path: str = "/accounts", *headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    """Return the scope of a GET request."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("192.0.2.7", 40000),
        "server": ("192.0.2.1", 443),
        "state": {},
        "extensions": {},
    }
    return scope | changes


def websocket_scope(path: str = "/accounts", *headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    """Return the scope of a websocket's handshake."""
    scope = http_scope(path, *headers, type="websocket", scheme="ws", subprotocols=[]) | changes
    del scope["method"]
    return scope


def bearer(token: str) -> tuple[bytes, bytes]:
    """Return the header that presents a token."""
    return b"authorization", b"Bearer " + token.encode()


async def ask(app: AsgiApp, scope: dict[str, Any], *events: Message) -> Answer:
    """Let the application serve one connection; without events, a request without a body."""
    answer = Answer()
    waiting = list(events or [{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        assert waiting, "the application waits for more than was sent"
        return waiting.pop(0)

    async def send(message: Message) -> None:
        answer.sent.append(message)

    await app(scope, receive, send)
    return answer
