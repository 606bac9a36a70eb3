"""Load beyond the capacity: its own process, many clients that each ask, think, and ask again.

Usage: ``python -m bench.overload_load ADDRESS FOLDER RATE SECONDS HOW``; prints one JSON object. ``RATE`` is what the
clients would ask in a second if they were all answered at once. Where ``HOW`` is ``obey``, a client that is refused
waits as long as RetryInfo says, else it goes on as if it had been answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import uvloop
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from bench.load import WORK

CONNECTIONS = 64
THINK_SECONDS = 0.25
WARM_UP_SECONDS = 1.0
DEADLINE = 10.0


@dataclass
class Seen:
    """What the clients met after the warm-up."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0


def retry_seconds(error: grpc.aio.AioRpcError) -> float | None:
    """Return how long the issuer asks to be left alone; ``None`` where this is not its refusal."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = RetryInfo()
            if any(detail.Unpack(info) for detail in Status.FromString(value).details):
                seconds: float = info.retry_delay.ToTimedelta().total_seconds()
                return seconds
    return None


async def _client(channel: grpc.aio.Channel, counted_from: float, until: float, obey: bool, seen: Seen) -> None:  # noqa: FBT001
    method, request, right = WORK["token"]
    call = channel.unary_unary(method)
    await asyncio.sleep(random.uniform(0, THINK_SECONDS))  # noqa: S311
    while (started := time.perf_counter()) < until:
        pause = random.uniform(0.5, 1.5) * THINK_SECONDS  # noqa: S311
        try:
            answer = await call(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            told = retry_seconds(error)
            if started >= counted_from:
                seen.refused += told is not None
                seen.failed += told is None
            pause = told if told is not None and obey else pause
        else:
            if not right(answer):
                raise RuntimeError(f"{method} gave a wrong answer")
            if started >= counted_from:
                seen.latencies.append(time.perf_counter() - started)
        await asyncio.sleep(pause)


async def _run(address: str, folder: Path, rate: float, seconds: float, *, obey: bool) -> dict[str, float]:
    credentials = grpc.ssl_channel_credentials(
        (folder / "roots.pem").read_bytes(), (folder / "key.pem").read_bytes(), (folder / "chain.pem").read_bytes()
    )
    options = [
        ("grpc.ssl_target_name_override", "spiffe-issuer.workload.internal"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    channels = [grpc.aio.secure_channel(address, credentials, options) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    seen = Seen()
    counted_from = time.perf_counter() + WARM_UP_SECONDS
    until = counted_from + seconds
    clients = (
        _client(channels[number % CONNECTIONS], counted_from, until, obey, seen)
        for number in range(int(rate * THINK_SECONDS))
    )
    await asyncio.gather(*clients)
    await asyncio.gather(*(channel.close() for channel in channels))
    cuts = statistics.quantiles(seen.latencies, n=100)
    return {
        "offered_s": (len(seen.latencies) + seen.refused + seen.failed) / seconds,
        "served_s": len(seen.latencies) / seconds,
        "refused_s": seen.refused / seconds,
        "failed": seen.failed,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
    }


def main() -> None:
    """Run and print."""
    address, folder, rate, seconds, obey = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(address, Path(folder), float(rate), float(seconds), obey=obey == "obey"))))


if __name__ == "__main__":
    main()
