"""What the gRPC application does with the ends of calls while its server finishes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import pytest
from support.transport_server import LIMITS, SERVICE, handlers

from issuer.log import open_log
from issuer.rpc.asgi_app import LEAST_LEFT_SECONDS, AsgiGrpc
from issuer.rpc.asgi_wire import GrpcFault, frame

TRAILERS = "http.response.trailers"


class Exchange:
    """One call of ``Echo``, and what was sent for it so far."""

    def __init__(self, app: AsgiGrpc, *headers: tuple[bytes, bytes]) -> None:
        self.sent: list[str] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/{SERVICE}/Echo",
            "headers": [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *headers],
        }
        self.done = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": frame(b"x"), "more_body": False}

    async def _send(self, event: Any) -> None:
        self.sent.append(event["type"])


@pytest.fixture
def app() -> AsgiGrpc:
    app = AsgiGrpc(handlers(), LIMITS, open_log("json", sys.stderr))
    app.held.hold()
    return app


def test_a_held_call_has_its_answer_and_no_status_until_it_is_released(app: AsgiGrpc) -> None:
    async def held() -> None:
        call = Exchange(app)
        await asyncio.wait({call.done}, timeout=0.1)
        assert call.sent == ["http.response.start", "http.response.body"]
        app.held.release()
        await call.done
        assert call.sent[-1] == TRAILERS
        await Exchange(app).done  # and those after it are not held

    asyncio.run(held())


def test_a_call_whose_caller_waits_not_much_longer_is_not_held(app: AsgiGrpc) -> None:
    async def short() -> None:
        call = Exchange(app, (b"grpc-timeout", b"%dm" % (1000 * LEAST_LEFT_SECONDS)))
        await call.done
        assert call.sent[-1] == TRAILERS

    asyncio.run(short())


def test_a_held_call_that_is_told_to_end_ends_with_what_it_had(app: AsgiGrpc) -> None:
    async def told() -> None:
        call = Exchange(app)
        await asyncio.wait({call.done}, timeout=0.1)
        app.end_calls(GrpcFault(grpc.StatusCode.UNAVAILABLE, "the connection has reached its age"))
        await call.done
        assert call.sent[-1] == TRAILERS

    asyncio.run(told())


def test_a_client_that_goes_away_ends_its_held_call(app: AsgiGrpc) -> None:
    async def gone() -> None:
        call = Exchange(app)
        await asyncio.wait({call.done}, timeout=0.1)
        call.done.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.done

    asyncio.run(gone())
