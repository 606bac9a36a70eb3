"""What is left of the issuer when twice as much is asked as it can do."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.load import WORK, Load, Report, Target, run
from bench.serving import servers
from issuer_testing.issuer_process import ISSUER_DNS_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNLOADED_CALLERS, PEAK_CALLERS = 16, 64
CONNECTIONS = 64
THINK_SECONDS = 0.25
"""How long a client does something else between two tokens: what is asked for does not depend on what is answered."""
REFUSED = "ResourceExhausted"


def measure_overload(
    folder: Path, *, runs: int, seconds: float, transports: Sequence[str] = ("h2corn", "grpcio")
) -> list[dict[str, object]]:
    """Measure the peak, and then twice that: at a fixed rate, and from clients that wait as long as RetryInfo says."""
    rows: list[dict[str, object]] = []
    for transport in transports:
        place = folder / transport
        place.mkdir()
        with servers(place, transport=transport) as (_, issuer, _process):
            target = Target(issuer.address, ISSUER_DNS_NAME, place, (issuer.pid,))
            rows += [{"transport": transport, **row} for row in _of(target, runs, seconds)]
    return rows


def _of(target: Target, runs: int, seconds: float) -> list[dict[str, object]]:
    run(target, WORK["token"], Load(UNLOADED_CALLERS, 1.0))  # warm
    unloaded, peaks = [], []
    for _ in range(runs):
        unloaded.append(run(target, WORK["token"], Load(UNLOADED_CALLERS, seconds)))
        peaks.append(run(target, WORK["token"], Load(PEAK_CALLERS, seconds)))
    of = statistics.median
    peak = of(each.calls / each.seconds for each in peaks)
    p99 = of(each.p99_ms for each in unloaded)
    rows = [_row(f"{UNLOADED_CALLERS} callers", unloaded), _row(f"{PEAK_CALLERS} callers", peaks)]
    # So many callers share the rate that each would be late only after more than a second.
    open_loop = Load(int(2 * peak), seconds, CONNECTIONS, rate=2 * peak)
    population = Load(int(2 * peak * THINK_SECONDS), seconds, CONNECTIONS, think=THINK_SECONDS, obey=True)
    for clients, load in (("twice the peak, fixed rate", open_loop), ("twice the peak, obey RetryInfo", population)):
        row = _row(clients, [run(target, WORK["token"], load) for _ in range(runs)])
        served, slow = float(str(row["served_s"])), float(str(row["p99_ms"]))
        rows.append(row | {"of_peak": round(served / peak, 2), "of_unloaded_p99": round(slow / p99, 1)})
    return rows


def _row(clients: str, found: list[Report]) -> dict[str, object]:
    columns = [_figures(each) for each in found]
    medians = {name: round(statistics.median(column[name] for column in columns), 1) for name in columns[0]}
    return {"clients": clients, **medians}


def _figures(report: Report) -> dict[str, float]:
    asked = sum(report.codes.values())
    refused = report.codes.get(REFUSED, 0)
    return {
        "offered_s": asked / report.seconds,
        "served_s": report.calls / report.seconds,
        "refused_s": refused / report.seconds,
        "failed": asked - refused - report.calls,
        "late": report.late,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "cpu_us": report.server_cpu_seconds / max(report.calls, 1) * 1e6,
    }
