"""Calls that the native transport refuses by itself, before Python is woken for them."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.eventually import eventually_true
from support.http2_by_hand import DATA, HEADERS, WINDOW_UPDATE, RawHttp2, frame
from support.transport_server import DEADLINE, DNS_NAME, LIMITS, echo, echo_each

from issuer.log import open_log
from issuer.ports import TlsMaterial
from issuer.rpc.health import Health
from issuer.rpc.turns import HOLD_SECONDS, TICK_SECONDS
from issuer_testing.spire.authority import Authority, pem_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from issuer.rpc.shedding import Sheds
    from issuer.rpc.together import Asking, Tell, Together

pytestmark = pytest.mark.native

SERVICE = "issuer_api.v1.IssuerService"
STATUSES = [[(b"grpc-status", b"8"), (b"grpc-message", text), (b"retry-after", text)] for text in (b"soon", b"later")]
AT_ONCE, KEPT_BACK = HOLD_SECONDS / 2, HOLD_SECONDS - TICK_SECONDS - 0.005
FOR_LONG = 3600.0


class FixedIdentity:
    """TLS material that does not change."""

    def __init__(self, authority: Authority) -> None:
        svid = authority.issue("spiffe://conformance.test/server", dns_names=[DNS_NAME])
        self._material = TlsMaterial(svid.chain_pem(), svid.key_pem(), pem_bundle([authority.root]))

    def tls_material(self) -> TlsMaterial:
        return self._material

    def subscribe(self, _changed: Callable[[], None]) -> None:
        """Nothing changes."""


class Served:
    """A listener whose handlers answer everything; every connection that calls is told to belong to one caller.

    It stands where :class:`issuer.rpc.together.Together` does, and leaves all calls to the handlers.
    """

    def __init__(self, max_held: int) -> None:
        from issuer.rpc.native_listener import NativeListener  # noqa: PLC0415 - in a wheel of its own

        self.authority = Authority("conformance.test")
        self.taken: Counter[str] = Counter()
        self._stopped = False
        self._max_held = max_held
        self.log = open_log("json", io.StringIO())
        identity = FixedIdentity(self.authority)
        self.listener = NativeListener(LIMITS, identity=identity, log=self.log, together=self._stand_in)
        self.port = self.listener.bind()

    def _stand_in(self, *, tell: Tell, sheds: Sheds | None = None) -> Together:
        del tell
        assert sheds is not None
        self._sheds = sheds
        self.allowance = sheds.new_allowance()
        return cast("Together", self)  # it has what a listener uses

    def take(self, calls: Sequence[Asking]) -> Sequence[Asking]:
        for each in calls:
            self.taken[each.call.method.rpartition("/")[2]] += 1
            assert each.peer is not None
            each.peer.share(self.allowance)
        return calls

    async def start(self) -> None:
        health = Health((SERVICE,), self.log)
        methods = {
            "IssueToken": grpc.unary_unary_rpc_method_handler(echo),
            "WatchRevocations": grpc.stream_stream_rpc_method_handler(echo_each),
        }
        await self.listener.start((grpc.method_handlers_generic_handler(SERVICE, methods), *health.handlers()))
        await health.set_serving(serving=True)
        self._sheds.refuse_with(STATUSES, self._max_held)

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await self.listener.stop(0)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A connection that has called once."""
        svid = self.authority.issue("spiffe://conformance.test/caller")
        roots = pem_bundle([self.authority.root])
        credentials = grpc.ssl_channel_credentials(roots, svid.key_pem(), svid.chain_pem())
        options = (("grpc.ssl_target_name_override", DNS_NAME), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            assert await issue(channel) == b"x"
            yield channel


@asynccontextmanager
async def served(max_held: int = 1000) -> AsyncIterator[Served]:
    running = Served(max_held)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def issue(channel: grpc.aio.Channel, within: float = DEADLINE) -> Any:
    return channel.unary_unary(f"/{SERVICE}/IssueToken")(b"x", timeout=within)


async def outcome(call: Any) -> str:
    """Return the text of a refusal, which all of what was given came with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refused = error
    else:
        return "OK"
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.trailing_metadata() or ())["retry-after"] == refused.details()
    return str(refused.details())


async def seconds_of(call: Any) -> float:
    began = time.monotonic()
    assert await outcome(call) in {"soon", "later"}
    return time.monotonic() - began


async def test_what_is_beyond_an_allowance_is_refused_with_what_was_given_and_python_never_sees_it() -> None:
    async with served() as server, server.channel() as channel:
        assert server.allowance.set(3, FOR_LONG) == 0
        outcomes = Counter(await asyncio.gather(*(outcome(issue(channel)) for _ in range(13))))
        assert outcomes == {"OK": 3, "soon": 5, "later": 5}
        assert server.taken["IssueToken"] == 4
        assert server.allowance.set(0, FOR_LONG) == 10
        assert server.allowance.set(0, FOR_LONG) == 0, "each is counted once"


async def test_all_connections_of_a_caller_share_what_it_may() -> None:
    async with served() as server, server.channel() as first, server.channel() as second:
        server.allowance.set(2, FOR_LONG)
        calls = [outcome(issue(channel)) for channel in (first, second) for _ in range(4)]
        assert Counter(await asyncio.gather(*calls))["OK"] == 2


async def test_a_connection_of_which_nothing_was_said_is_served() -> None:
    async with served() as server, server.channel() as flooding:
        server.allowance.set(0, FOR_LONG)
        assert await outcome(issue(flooding)) != "OK"
        async with server.channel() as other:  # its first call is served, and with that it is said
            assert await outcome(issue(other)) != "OK"


async def test_health_is_served_to_a_caller_who_may_ask_nothing_else() -> None:
    async with served() as server, server.channel() as channel:
        server.allowance.set(0, FOR_LONG)
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert await outcome(issue(channel)) != "OK"


async def test_when_its_time_is_over_an_allowance_refuses_nobody() -> None:
    async with served() as server, server.channel() as channel:
        server.allowance.set(0, 0.2)
        assert await outcome(issue(channel)) != "OK"
        assert await outcome(issue(channel)) == "OK"
        server.allowance.set(0, 0.0)
        assert await outcome(issue(channel)) == "OK"


async def test_a_refusal_is_kept_back_for_whoever_waits_long_enough() -> None:
    async with served() as server, server.channel() as channel:
        server.allowance.set(0, FOR_LONG)
        assert await seconds_of(issue(channel)) >= KEPT_BACK
        assert await seconds_of(issue(channel, within=HOLD_SECONDS)) < AT_ONCE


async def test_no_more_refusals_are_kept_back_than_are_bounded_and_whoever_leaves_makes_room() -> None:
    async with served(max_held=1) as server, server.channel() as channel:
        server.allowance.set(0, FOR_LONG)
        kept = issue(channel)
        await eventually_true(lambda: server.allowance.set(0, FOR_LONG) == 1)
        assert await seconds_of(issue(channel)) < AT_ONCE
        kept.cancel()
        with pytest.raises(asyncio.CancelledError):
            await kept
        assert await seconds_of(issue(channel)) >= KEPT_BACK


async def test_what_a_refused_call_sends_on_takes_no_room_on_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.rpc.native_listener.HOLD_SECONDS", 3 * DEADLINE)  # it is not over meanwhile
    async with served() as server:
        assert await asyncio.to_thread(first_told_of_more, server, tmp_path) == (WINDOW_UPDATE, 0)


def first_told_of_more(server: Served, folder: Path) -> tuple[int, int]:
    """Send on in refused calls, more than half of what a connection takes; return the first frame's kind and stream."""
    with RawHttp2(server, folder) as client:
        stream, content = client.call(f"/{SERVICE}/IssueToken", b"x")
        client.write(content)
        assert client.ended(stream)
        server.allowance.set(0, FOR_LONG)
        piece = bytes(16 * 1024)
        for _ in range(2):
            stream, content = client.call(f"/{SERVICE}/WatchRevocations", None)
            client.write(content + frame(DATA, 0, stream, b"\0\0\0\0\1x"))
            for _ in range(LIMITS.max_message_bytes // len(piece)):
                client.write(frame(DATA, 0, stream, piece))
        told = client.read_until({WINDOW_UPDATE, HEADERS})
        assert told is not None
        return told.kind, told.stream


async def test_refusals_that_are_kept_back_do_not_keep_a_server_from_its_end() -> None:
    async with served() as server, server.channel() as channel:
        server.allowance.set(0, FOR_LONG)
        call = asyncio.create_task(outcome(issue(channel)))
        await eventually_true(lambda: server.allowance.set(0, FOR_LONG) == 1)
        await server.stop()
        assert await call in {"soon", "later"}
