"""A resource server on this machine that refuses the tokens it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from issuer_testing.deadline import wait_until
from support.numbered_tokens import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Asked:
    """One request; ``token`` is the name of the token, ``None`` without one."""

    method: str
    path: str
    token: object
    body: bytes


@dataclass
class ResourceServer:
    """What a test decides, and what was asked.

    ``/`` answers with the body of the request, ``/redirect?status=&to=`` elsewhere, ``/answer?status=&challenge=`` as
    it says, with the caller's own header in place of ``TOKEN``. Each refuses the tokens in ``refused`` first.
    """

    name: Callable[[str], object] = number_of
    """Returns the name of the token in an Authorization header."""
    refused: set[object] = field(default_factory=set)
    """Names of tokens."""
    refused_paths: set[str] | None = None
    """Where they are refused; everywhere without it."""
    early: bool = False
    """Refuse before the body is read."""
    together: int = 0
    """Let so many refusals wait for each other."""
    origin: str = ""
    asked: list[Asked] = field(default_factory=list)
    _gate: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: int = 0

    def forget(self) -> None:
        """Begin anew, for the next test."""
        self.refused, self.refused_paths, self.early, self.together = set(), None, False, 0
        self.asked.clear()
        self._gate.clear()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        authorization = request.headers.get("authorization")
        asked = Asked(request.method, scope["path"], None if authorization is None else self.name(authorization), b"")
        if not (self.early and asked.token in self.refused):
            asked = replace(asked, body=await request.body())
        self.asked.append(asked)
        await (await self._answer(request, asked))(scope, receive, send)

    async def _answer(self, request: Request, asked: Asked) -> Response:
        if asked.token in self.refused and (self.refused_paths is None or asked.path in self.refused_paths):
            await self._wait_for_others()
            return _refusal()
        query = request.query_params
        if asked.path == "/redirect":
            return Response(status_code=int(query["status"]), headers={"Location": query["to"]})
        if asked.path == "/answer":
            response = Response(b"the server's own words", status_code=int(query["status"]))
            sent = request.headers.get("authorization", "")
            for line in query.getlist("challenge"):
                response.headers.append("WWW-Authenticate", line.replace("TOKEN", sent))
            return response
        return Response(asked.body)

    async def _wait_for_others(self) -> None:
        self._waiting += 1
        if self._waiting >= self.together:
            self._gate.set()
        await asyncio.wait_for(self._gate.wait(), 20)


def _refusal() -> Response:
    response = Response(b"x" * 1_000_000, status_code=401)  # more than a client takes without being asked
    response.headers.append("WWW-Authenticate", "Negotiate")
    response.headers.append("WWW-Authenticate", 'Bearer error="invalid_token", error_description="not good"')
    return response


@contextmanager
def serving(*, certificate: tuple[Path, Path] | None = None) -> Iterator[ResourceServer]:
    """Serve on a free port of 127.0.0.1, with TLS where there is a certificate and its key."""
    server = ResourceServer()
    files = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])} if certificate else {}
    # On a busy machine a hundred clients pause for longer than the usual five seconds, and would be reset.
    options = {"log_config": None, "ws": "none", "lifespan": "off", "timeout_keep_alive": 120}
    config = uvicorn.Config(server, **options, **files)  # type: ignore[arg-type]
    uvicorn_server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.origin = f"{'https' if certificate else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        thread = Thread(target=uvicorn_server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: uvicorn_server.started, what="the resource server listens", seconds=20)
        try:
            yield server
        finally:
            uvicorn_server.should_exit = True
            thread.join(20)
