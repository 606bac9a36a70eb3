"""Calls that are refused before they are read, on an ASGI server of which a test sees each step."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from support.svid_vectors import FixedBundles

from issuer.core.admission import Limits
from issuer.core.spiffe_id import SpiffeId, TrustDomain
from issuer.core.verdicts import CallerVerifier
from issuer.log import open_log
from issuer.rpc.asgi_app import AsgiGrpc
from issuer.rpc.door import Door
from issuer.rpc.settings import RpcSettings
from issuer.rpc.turns import HOLD_SECONDS, TICK_SECONDS, Turns
from issuer_testing.spire.authority import Authority, pem_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ISSUE = "/issuer_api.v1.IssuerService/IssueToken"
FLOOD, MODEST = "spiffe://prod.example/flood", "spiffe://prod.example/modest"
LIMITS = Limits(turns=5, waiting=256, wait_seconds=5.0)
"""A fifth of that is what the flood waits, and what a busy machine may take for a test."""
HELD_BY_ONE, WAITING = 4, 6
"""Of those turns one caller holds four; and so many more of its calls wait."""
MINUTE = timedelta(minutes=1)
SETTINGS = RpcSettings(
    listen="127.0.0.1:0",
    max_message_bytes=4096,
    max_metadata_bytes=4096,
    max_concurrent_streams=100,
    max_connection_age=MINUTE,
    max_connection_age_grace=MINUTE,
    max_connections=100,
    handshake_timeout=MINUTE,
    max_connection_idle=MINUTE,
    keepalive_time=MINUTE,
    keepalive_timeout=MINUTE,
    min_ping_interval=MINUTE,
)


class Served:
    """An application with its door, and one call at a time on it."""

    def __init__(self, most_calls: int = 1000) -> None:
        self.refused: list[str] = []
        self._stream = io.StringIO()
        log = open_log("json", self._stream)
        self.turns = Turns(LIMITS, most_calls=most_calls, refused=self._refuse, log=log)
        prod = Authority("prod.example")
        allowed = frozenset({TrustDomain("prod.example")})
        self._verifier = CallerVerifier(FixedBundles.of(prod), lambda: allowed)
        self._leaves = {name: pem_bundle(prod.issue(name).cert_chain[:1]).decode() for name in (FLOOD, MODEST)}
        self.door = Door(self.turns, self._verifier)
        self._app = AsgiGrpc((), SETTINGS, log, self.door)
        self.closed = False

    def _refuse(self, trust_domain: str, calls: int) -> None:
        self.refused += [trust_domain] * calls

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def verified(self, caller: str) -> None:
        self._verifier.verify(self._leaves[caller].encode(), None, datetime.now(UTC))

    async def call(self, caller: str = FLOOD, path: str = ISSUE, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
        """Make a call whose message never comes; return what was answered."""
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *headers],
            "extensions": {"tls": {"client_cert_chain": (self._leaves[caller],)}},
            "client": ("192.0.2.7", 4000),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if self.closed:
                raise OSError("the client is gone")
            sent.append(message)

        await self._app(scope, receive, send)
        return sent

    async def is_refused(self, caller: str = FLOOD, path: str = ISSUE) -> bool:
        sent = await self.call(caller, path, (b"grpc-timeout", b"100m"))
        return code_of(sent) == b"8"  # what goes on finds no method: 12


@asynccontextmanager
async def flooded(served: Served) -> AsyncIterator[None]:
    """Let the flooder wait all the time, until it is refused at the door."""
    flooder = SpiffeId.parse(FLOOD)
    waiting = [asyncio.create_task(served.turns.take(flooder, 1, None)) for _ in range(HELD_BY_ONE + WAITING)]
    served.verified(FLOOD)
    try:
        async with asyncio.timeout(10):
            while not await served.is_refused():  # noqa: ASYNC110 - what is waited for is told by nothing else
                await asyncio.sleep(0.01)
        served.refused.clear()
        yield
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def code_of(sent: list[dict[str, Any]]) -> bytes:
    [code] = [value for message in sent for name, value in message.get("headers", ()) if name == b"grpc-status"]
    return bytes(code)


def status_of(sent: list[dict[str, Any]]) -> Status:
    headers = dict(sent[0]["headers"])
    assert headers[b"grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]).encode()
    details = headers[b"grpc-status-details-bin"]
    return Status.FromString(base64.b64decode(details + b"=" * (-len(details) % 4)))


async def test_a_flooder_is_refused_before_its_message_comes_and_told_when_to_come_back() -> None:
    served = Served()
    async with flooded(served):
        sent = await served.call()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1] == {"type": "http.response.body", "body": b"", "more_body": False}
    info, retry = ErrorInfo(), RetryInfo()
    status = status_of(sent)
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert info.reason == "RATE_LIMITED"
    assert retry.retry_delay.ToTimedelta() >= timedelta(seconds=0.5)
    assert served.refused == ["prod.example"], "it is counted"
    assert {line["event"] for line in served.lines} == {"calls_refused"}, "and not logged by itself"


async def test_the_refusals_of_a_moment_are_held_back_and_told_together() -> None:
    served = Served()
    async with flooded(served):
        clock = asyncio.get_running_loop().time
        started = clock()
        waiting = {asyncio.create_task(served.call()) for _ in range(20)}
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert clock() - started >= HOLD_SECONDS - TICK_SECONDS
        told = [len(done)]
        while waiting:  # they may have come before and after the beginning of a tick
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            told.append(len(done))
    assert max(told) > 1


async def test_no_refusal_is_held_back_where_its_caller_would_be_gone_or_much_is_held_already() -> None:
    served, full = Served(), Served(most_calls=1)
    clock = asyncio.get_running_loop().time
    async with flooded(served), flooded(full):
        started = clock()
        assert await served.call(FLOOD, ISSUE, (b"grpc-timeout", b"100m"))
        full.turns.enter()
        assert await full.call()
        assert clock() - started < HOLD_SECONDS - TICK_SECONDS


async def test_what_is_held_back_counts_against_the_calls_that_may_be_here() -> None:
    served = Served(most_calls=4)
    async with flooded(served):
        held = [asyncio.create_task(served.call()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in held)
        served.turns.enter()
        started = asyncio.get_running_loop().time()
        assert await served.call(), "half of the room is taken: it is told at once"
        assert asyncio.get_running_loop().time() - started < HOLD_SECONDS - TICK_SECONDS
        await asyncio.gather(*held)


async def test_nobody_else_is_refused_at_the_door() -> None:
    served = Served()
    async with flooded(served):
        assert not await served.is_refused(MODEST), "nobody knows it yet"
        served.verified(MODEST)
        assert not await served.is_refused(MODEST)
        assert served.refused == []


async def test_health_is_never_refused_at_the_door() -> None:
    served = Served()
    async with flooded(served):
        sent = await served.call(FLOOD, "/grpc.health.v1.Health/Check")
        assert code_of(sent) == b"12", "it went on, to where no such method is served"
        assert served.refused == []


async def test_a_malformed_call_goes_on_to_be_told_so() -> None:
    served = Served()
    async with flooded(served):
        sent = await served.call(FLOOD, ISSUE, (b"grpc-timeout", b"soon"))
        assert code_of(sent) == b"13"


async def test_a_client_that_is_gone_when_its_refusal_is_told_does_no_harm() -> None:
    served = Served()
    async with flooded(served):
        served.closed = True
        assert await served.call() == []


async def test_a_call_that_is_cancelled_while_its_refusal_is_held_back_leaves_nothing() -> None:
    served = Served(most_calls=2)
    async with flooded(served):
        for _ in range(3):
            call = asyncio.create_task(served.call())
            await asyncio.sleep(0)
            assert not call.done(), "there is room to hold it back"
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)


async def test_where_nobody_waits_the_door_is_open() -> None:
    served = Served()
    served.verified(FLOOD)
    assert not served.door.busy
    assert not await served.is_refused()
