"""Tells a caller on an ASGI server that its call was one too many, at as little cost as can be."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import grpc

from issuer.core.errors import RateLimited
from issuer.rpc.asgi_peer import chain_of
from issuer.rpc.asgi_wire import GrpcFault, status_headers, timeout_seconds
from issuer.rpc.status import status_from_error

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import timedelta

    from issuer.rpc.asgi_context import Send
    from issuer.rpc.door import Door
    from issuer.rpc.turns import TurnedAway

_HEADERS = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity")]
_NO_BODY = {"type": "http.response.body", "body": b"", "more_body": False}


def turned_away(door: Door, scope: Mapping[str, Any], send: Send) -> Coroutine[Any, Any, None] | None:
    """Return what refuses a call of gRPC, if the door does; ``None`` if it may go on, or is malformed.

    Not a coroutine itself: while a refusal is held back, nothing of the call is kept but ``send``.
    """
    try:
        timeout = next((value for name, value in scope["headers"] if name == b"grpc-timeout"), None)
        within = None if timeout is None else timeout_seconds(timeout)
    except GrpcFault:
        return None
    found = door.turn_away(scope["path"][1:], *chain_of(scope), within)
    return None if found is None else _refuse(found, send)


async def _refuse(found: TurnedAway, send: Send) -> None:
    start = _start(found.refusal.message, found.refusal.retry_after)
    if found.held is not None:
        await found.held
    try:
        await send(start)
        await send(_NO_BODY)
    except OSError:  # the client is gone
        return


@lru_cache(maxsize=128)  # there are sixteen times to come back after in each of three spans
def _start(message: str, retry_after: timedelta) -> dict[str, Any]:
    status = status_from_error(RateLimited(message, retry_after), "")
    fields = (("grpc-status-details-bin", status.SerializeToString()),)
    # "Trailers-Only" of gRPC: one block of headers is the whole answer, where other statuses take two. h2corn says
    # "content-length: 0" in it, which some clients show as metadata; so only this status, which must be cheap, is so.
    headers = [*_HEADERS, *status_headers(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, fields)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
