"""What a token costs with several workers, beside one: ``python -m bench --only workers``.

CPU a token, of the whole process tree, in short turns after one another, so that the ratio is of neighbours in time:
where the load generator shares the cores, tokens a second tell nothing.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from bench.serving import Figures, Server, measure, median, servers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

CALLERS: Final = (16, 64)
WORKERS: Final = (1, 2)


def measure_workers(
    console: Console, folder: Path, *, transport: str, turns: int, seconds: float
) -> list[dict[str, object]]:
    """Measure tokens with one worker and with two, in turn.

    Args:
        console: Where progress is shown.
        folder: Where the issuers keep what they need.
        transport: What carries the calls.
        turns: How often each is measured.
        seconds: How long, each time.
    """
    with ExitStack() as stack:
        started: dict[int, Server] = {}
        for workers in WORKERS:
            place = folder / str(workers)
            place.mkdir()
            options = {"server": {"transport": transport, "workers": workers}}
            _, started[workers], _ = stack.enter_context(servers(place, options=options, transport=transport))
        found: dict[tuple[int, int], list[Figures]] = {}
        for turn in range(turns):
            console.print(f"workers, {transport}, turn {turn + 1} of {turns}", style="dim")
            for callers in CALLERS:
                for workers in WORKERS if turn % 2 else reversed(WORKERS):
                    figures = measure(started[workers], folder / str(workers), "token", callers, seconds)
                    found.setdefault((workers, callers), []).append(figures)
    return [_row(transport, workers, callers, found) for workers, callers in found]


def _row(transport: str, workers: int, callers: int, found: dict[tuple[int, int], list[Figures]]) -> dict[str, object]:
    figures = median(found[workers, callers])
    return {
        "transport": transport,
        "workers": workers,
        "callers": callers,
        "cpu_us": round(figures.cpu_us_per_request),
        "p50_ms": round(figures.p50_ms, 1),
        "beside_one": round(_ratio(found[workers, callers], found[1, callers]), 2),
    }


def _ratio(some: Sequence[Figures], one: Sequence[Figures]) -> float:
    pairs = zip(some, one, strict=True)
    return statistics.median(each.cpu_us_per_request / other.cpu_us_per_request for each, other in pairs)
