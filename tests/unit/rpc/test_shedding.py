"""Which calls a transport is told to refuse by itself."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any, Self

from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from support.eventually import eventually_true
from support.shedding import Connection, Transport

from issuer.core.admission import LATE_FOR, STANDING_QUEUE, Limits
from issuer.core.retry_times import STEPS
from issuer.core.spiffe_id import SpiffeId
from issuer.log import open_log
from issuer.rpc.asgi_wire import metadata_from_headers
from issuer.rpc.shedding import MOST_CALLERS, Shedding
from issuer.rpc.turns import Turns

if TYPE_CHECKING:
    from support.shedding import Allowance

LIMITS = Limits(turns=5, waiting=1000, wait_seconds=1.0)
ALONE = 4
"""The turns that one caller holds."""
CALLS = 12
MOST_CALLS = 1000
LATE_SECONDS = LATE_FOR * LIMITS.wait_seconds / STANDING_QUEUE
FLOOD = SpiffeId.parse("spiffe://prod.example/flood")


class Flooded:
    """Turns that one caller wants more of than there are."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.counted: dict[str, int] = {}
        self.transport = Transport()
        self.turns = Turns(LIMITS, most_calls=MOST_CALLS, refused=self._count, log=open_log("json", self._stream))
        self.shedding = Shedding(self.turns, self.transport)
        self.calls: list[asyncio.Task[object]] = []

    def _count(self, trust_domain: str, calls: int) -> None:
        self.counted[trust_domain] = self.counted.get(trust_domain, 0) + calls

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    async def is_late(self, *callers: SpiffeId) -> None:
        """Let each ask for more than it gets until one of its calls is refused."""
        for caller in callers:
            self.calls += [asyncio.create_task(self.turns.take(caller, 1, None)) for _ in range(CALLS)]
        for caller in callers:
            await eventually_true(lambda: self.turns.turn_away(caller, None) is not None)  # noqa: B023 - awaited here

    async def __aenter__(self) -> Self:
        await self.is_late(FLOOD)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let nothing run or wait any more."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)


def begun(flooded: Flooded, connection: Connection) -> Allowance:
    flooded.shedding.begin(FLOOD, connection)
    flooded.shedding.look()
    assert connection.allowance is not None
    return connection.allowance


async def test_a_late_caller_has_one_allowance_for_all_its_connections() -> None:
    async with Flooded() as flooded:
        first, second = Connection(), Connection()
        allowance = begun(flooded, first)
        assert (allowance.calls, 0 < allowance.seconds <= LATE_SECONDS) == (0, True)
        assert begun(flooded, second) is allowance


async def test_more_is_allowed_when_some_of_its_calls_are_over() -> None:
    async with Flooded() as flooded:
        allowance = begun(flooded, Connection())
        for call in flooded.calls[ALONE:]:
            call.cancel()
        await asyncio.gather(*flooded.calls[ALONE:], return_exceptions=True)
        flooded.shedding.look()
        assert 0 < allowance.calls <= ALONE
        assert flooded.turns.turn_away(FLOOD, None) is None


async def test_what_the_transport_refused_is_counted_and_told_as_at_the_door() -> None:
    async with Flooded() as flooded:
        allowance = begun(flooded, Connection())
        before = flooded.counted["prod.example"]
        allowance.refused = 500
        await eventually_true(lambda: allowance.refused == 0)  # without a call that looks
        assert flooded.counted["prod.example"] == before + 500
        allowance.refused = 3
        await eventually_true(lambda: len(flooded.lines) > 1)
        assert flooded.lines[-1]["last_caller"] == str(FLOOD)
        assert flooded.lines[-1]["refused"] >= 500


async def test_refusals_are_what_the_door_tells_with_times_that_are_spread() -> None:
    async with Flooded() as flooded:
        begun(flooded, Connection())
        begun(flooded, Connection())
        [statuses] = flooded.transport.told
        assert flooded.transport.max_held == MOST_CALLS / 2
        delays = set()
        for trailers in statuses:
            fields = dict(metadata_from_headers(trailers))
            assert fields["grpc-status"] == "8"
            details = fields["grpc-status-details-bin"]
            assert isinstance(details, bytes)
            status = Status.FromString(details)
            about, retry = ErrorInfo(), RetryInfo()
            assert status.details[0].Unpack(about)
            assert status.details[1].Unpack(retry)
            assert about.reason == "RATE_LIMITED"
            delays.add(retry.retry_delay.ToMilliseconds())
        assert len(delays) == STEPS


async def test_when_its_caller_is_late_no_more_an_allowance_refuses_nobody_and_is_forgotten() -> None:
    async with Flooded() as flooded:
        connection = Connection()
        allowance = begun(flooded, connection)
        await flooded.stop()
        await eventually_true(lambda: flooded.turns.allowance(FLOOD) is None)
        flooded.shedding.look()
        assert allowance.seconds == 0
        flooded.calls = []
        await flooded.is_late(FLOOD)
        assert begun(flooded, connection) is not allowance


async def test_what_was_refused_last_is_counted_before_it_is_forgotten() -> None:
    async with Flooded() as flooded:
        allowance = begun(flooded, Connection())
        before = flooded.counted["prod.example"]
        allowance.refused_last = 7
        await flooded.stop()
        await eventually_true(lambda: flooded.counted["prod.example"] == before + 7)


async def test_no_more_callers_than_are_bounded_have_allowances() -> None:
    async with Flooded() as flooded:
        connections = [Connection() for _ in range(MOST_CALLERS + 1)]
        for number, connection in enumerate(connections):
            flooded.shedding.begin(SpiffeId.parse(f"spiffe://prod.example/{number}"), connection)
        assert [each.allowance is None for each in connections] == [False] * MOST_CALLERS + [True]
