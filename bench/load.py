"""The load generator: its own process, one connection for each caller, each caller with one call in flight.

Usage: ``python -m bench.load ADDRESS FOLDER WORK CALLERS SECONDS``; prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import uvloop

from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_ITEMS = 64
AUDIENCE, SCOPE = "https://ledger.dev.test", "ledger.read"
_SERVICE = "/issuer_api.v1.IssuerService"

_ITEM = pb.IssueTokenRequest(audience=AUDIENCE, scopes=[SCOPE])
_BATCH = pb.BatchIssueTokensRequest(requests=[_ITEM] * BATCH_ITEMS)


def _one_token(answer: bytes) -> bool:
    return bool(pb.IssueTokenResponse.FromString(answer).token)


def _all_tokens(answer: bytes) -> bool:
    results = pb.BatchIssueTokensResponse.FromString(answer).results
    return len(results) == BATCH_ITEMS and all(result.response.token for result in results)


WORK: dict[str, tuple[str, bytes, Callable[[bytes], bool]]] = {
    "null": ("/bench.NullService/Null", b"", lambda answer: answer == b""),
    "dial": ("/bench.NullService/Null", b"", lambda answer: answer == b""),
    "token": (f"{_SERVICE}/IssueToken", _ITEM.SerializeToString(), _one_token),
    "batch": (f"{_SERVICE}/BatchIssueTokens", _BATCH.SerializeToString(), _all_tokens),
}
"""Method, request, and whether an answer is right: an answer that is not ends the run."""


async def _caller(channel: grpc.aio.Channel, work: str, until: float, latencies: list[float]) -> None:
    method, request, right = WORK[work]
    call = channel.unary_unary(method)
    while (started := time.perf_counter()) < until:
        answer = await call(request)
        latencies.append(time.perf_counter() - started)
        if not right(answer):
            raise RuntimeError(f"{method} gave a wrong answer")


def _channel(address: str, folder: Path) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        (folder / "roots.pem").read_bytes(), (folder / "key.pem").read_bytes(), (folder / "chain.pem").read_bytes()
    )
    options = [
        ("grpc.ssl_target_name_override", "spiffe-issuer.workload.internal"),
        ("grpc.use_local_subchannel_pool", 1),  # one connection for each channel
        ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ]
    return grpc.aio.secure_channel(address, credentials, options)


async def _dialler(address: str, folder: Path, work: str, until: float, latencies: list[float]) -> None:
    """Make each call on a connection of its own."""
    method, request, right = WORK[work]
    while (started := time.perf_counter()) < until:
        async with _channel(address, folder) as channel:
            answer = await channel.unary_unary(method)(request)
        latencies.append(time.perf_counter() - started)
        if not right(answer):
            raise RuntimeError(f"{method} gave a wrong answer")


async def _run(address: str, folder: Path, work: str, callers: int, seconds: float) -> dict[str, float]:
    channels = [_channel(address, folder) for _ in range(callers)]
    method, request, _ = WORK[work]
    await asyncio.gather(*(channel.unary_unary(method)(request, wait_for_ready=True) for channel in channels))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    latencies: list[float] = []
    started = time.perf_counter()
    until = started + seconds
    if work == "dial":
        await asyncio.gather(*(_dialler(address, folder, work, until, latencies) for _ in channels))
    else:
        await asyncio.gather(*(_caller(channel, work, until, latencies) for channel in channels))
    elapsed = time.perf_counter() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    cuts = statistics.quantiles(latencies, n=100)
    return {"calls": len(latencies), "seconds": elapsed, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


def main() -> None:
    """Run and print."""
    address, folder, work, callers, seconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(address, Path(folder), work, int(callers), float(seconds)))))


if __name__ == "__main__":
    main()
