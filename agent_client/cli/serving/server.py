"""Connections: one request and one answer each, bounded in number, size and time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent_client.cli.serving.answers import failure_answer, refusal, token_answer
from agent_client.cli.serving.listeners import BACKLOG
from agent_client.cli.serving.request import HEAD_END, MAX_HEAD_BYTES, MalformedRequest, parse_request
from agent_client.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_client import TokenSource
    from agent_client.cli.serving.answers import Answer
    from agent_client.cli.serving.guard import Guard
    from agent_client.cli.serving.request import Request

MAX_CONNECTIONS = 128
"""At the same moment. An answer takes less than a millisecond, so this is a hundred thousand a second, or an attack."""
IDLE_SECONDS = 5.0
"""For a request to come whole, and for an answer to be taken: an honest program on this host needs none of it."""
_CREDENTIALS = struct.Struct("iII")  # unix(7), SO_PEERCRED: struct ucred, which is pid, uid, gid
PATH = "/token"


class TokenServer:
    """Gives out tokens. For one event loop.

    Args:
        sources: By audience.
        guard: Who may ask.
        seconds: How long an asker waits where the issuer has to be asked.
    """

    def __init__(self, sources: Mapping[str, TokenSource], guard: Guard, seconds: float) -> None:
        self._sources = sources
        self._guard = guard
        self._seconds = seconds
        self._connections = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Answer on ``listener`` until ``stop``, and then to those who have asked, for some seconds."""
        server = await asyncio.start_server(self._connected, sock=listener, limit=MAX_HEAD_BYTES, backlog=BACKLOG)
        async with server:
            await stop.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._idle.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self._idle.clear()
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):  # who asked went away, or is too slow
                await self._converse(reader, writer)
        finally:
            self._connections -= 1
            if not self._connections:
                self._idle.set()
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(reader, _uid(writer))
        writer.write(answer.encode())
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, uid: int | None) -> Answer:
        if self._connections > MAX_CONNECTIONS:
            return refusal(503, "temporarily_unavailable", "there are too many connections", {"Retry-After": "1"})
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                head = await reader.readuntil(HEAD_END)
            request = parse_request(head)
        except asyncio.LimitOverrunError:
            return refusal(431, "invalid_request", f"the request is larger than {MAX_HEAD_BYTES} bytes")
        except asyncio.IncompleteReadError:
            return refusal(400, "invalid_request", "the request is not whole")
        except TimeoutError:
            return refusal(408, "invalid_request", "the request did not come in time")
        except MalformedRequest as error:
            return refusal(400, "invalid_request", str(error))
        return self._guard.refusal(request, uid) or await self._token(request)

    async def _token(self, request: Request) -> Answer:
        if request.path != PATH:
            return refusal(404, "invalid_request", f"there is nothing but {PATH}")
        if request.method != "GET":
            return refusal(405, "invalid_request", "it is asked by GET", {"Allow": "GET"})
        if request.parameters.keys() != {"audience"}:
            return refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "name the audience, and nothing else")
        source = self._sources.get(request.parameters["audience"])
        if source is None:
            return refusal(404, "invalid_target", "no token for this audience is given out here")
        try:
            return token_answer(await source.get(timeout=self._seconds), utc_now())
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told, and the next one is answered
            return failure_answer(error)


def _uid(writer: asyncio.StreamWriter) -> int | None:
    """Return the user at the other end, where the kernel tells it."""
    peer = writer.get_extra_info("socket")
    if peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
