"""The same calls on each transport, in turn: the null RPC, a token with its record, and a call with its handshake."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.serving import Figures, Server, measure, median, servers
from bench.transports import here

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

PLAN = [*((work, callers) for callers in (1, 16, 64) for work in ("null", "token")), ("dial", 1), ("dial", 16)]
"""Work and callers. ``dial`` is a null RPC on a connection of its own."""


def measure_transports(console: Console, folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Measure, and return one row for each kind of work."""
    found: dict[tuple[str, str, int], list[Figures]] = {}
    with ExitStack() as stack:
        started: dict[str, tuple[Server, Server]] = {}
        for transport in here():
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
        _row(work, callers, {transport: medians[transport, work, callers] for transport in here()})
        for work, callers in PLAN
    ]


def _row(work: str, callers: int, of: dict[str, Figures]) -> dict[str, object]:
    row: dict[str, object] = {"work": work, "callers": callers}
    for transport, figures in of.items():
        row[f"{transport}_cpu_us"] = round(figures.cpu_us_per_request)
        row[f"{transport}_ratio"] = round(figures.cpu_us_per_request / of["grpcio"].cpu_us_per_request, 2)
        row[f"{transport}_calls_s"] = round(figures.requests_per_second)
        row[f"{transport}_p50_ms"] = round(figures.p50_ms, 2)
        row[f"{transport}_p99_ms"] = round(figures.p99_ms, 2)
    return row
