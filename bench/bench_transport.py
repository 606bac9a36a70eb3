"""The same calls on each transport, in turn: the null RPC, a token with its record, and a call with its handshake."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.serving import Figures, Server, measure, median, servers

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

TRANSPORTS = ("grpcio", "h2corn")
PLAN = [*((work, callers) for callers in (1, 16, 64) for work in ("null", "token")), ("dial", 1), ("dial", 16)]
"""Work and callers. ``dial`` is a null RPC on a connection of its own."""


def measure_transports(console: Console, folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Measure, and return one row for each kind of work."""
    found: dict[tuple[str, str, int], list[Figures]] = {}
    with ExitStack() as stack:
        started: dict[str, tuple[Server, Server]] = {}
        for transport in TRANSPORTS:
            (folder / transport).mkdir()
            null, issuer, _ = stack.enter_context(servers(folder / transport, transport=transport))
            started[transport] = null, issuer
        for run in range(1, runs + 1):
            for work, callers in PLAN:
                console.print(f"transports, run {run} of {runs}: {work}, {callers} callers", style="dim")
                for transport, (null, issuer) in started.items():
                    server = issuer if work == "token" else null
                    figures = measure(server, folder / transport, work, callers, seconds)
                    found.setdefault((transport, work, callers), []).append(figures)
    medians = {key: median(measured) for key, measured in found.items()}
    return [
        _row(work, callers, *(medians[transport, work, callers] for transport in TRANSPORTS)) for work, callers in PLAN
    ]


def _row(work: str, callers: int, first: Figures, second: Figures) -> dict[str, object]:
    return {
        "work": work,
        "callers": callers,
        "grpcio_cpu_us": round(first.cpu_us_per_request),
        "h2corn_cpu_us": round(second.cpu_us_per_request),
        "ratio": round(second.cpu_us_per_request / first.cpu_us_per_request, 2),
        "grpcio_calls_s": round(first.requests_per_second),
        "h2corn_calls_s": round(second.requests_per_second),
        "grpcio_p50_ms": round(first.p50_ms, 2),
        "h2corn_p50_ms": round(second.p50_ms, 2),
        "grpcio_p99_ms": round(first.p99_ms, 2),
        "h2corn_p99_ms": round(second.p99_ms, 2),
    }
