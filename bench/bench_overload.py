"""What is left of the issuer when twice as much is asked as it can do."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cores import Apart, busy_seconds, on_core
from bench.load import WORK, Load, Report, Target, run
from bench.serving import servers
from bench.transports import here
from issuer_testing.issuer_process import ISSUER_DNS_NAME

if TYPE_CHECKING:
    from pathlib import Path

UNLOADED_CALLERS, PEAK_CALLERS = 16, 64
CONNECTIONS = 64
THINK_SECONDS = 0.25
"""How long a client does something else between two tokens: what is asked for does not depend on what is answered."""
LEAD_SECONDS = 1.5
"""So long an overload lasts before it is looked at: the first moment of a burst is let through, and clients that wait
as long as they are told need a second to do so."""
REFUSED = "ResourceExhausted"


@dataclass(frozen=True)
class _Run:
    """One run, and the part of its time for which the server's core worked for others; 0 where it was not looked at."""

    report: Report
    others: float


def measure_overload(folder: Path, *, runs: int, seconds: float, apart: bool = False) -> list[dict[str, object]]:
    """Measure the peak, and then twice that: at a fixed rate, and from clients that wait as long as RetryInfo says.

    Raises:
        LookupError: Server and load generator are to be kept apart, and there is one core.
    """
    cores = Apart.of_this_machine() if apart else Apart()
    rows: list[dict[str, object]] = []
    for transport in reversed(here()):
        place = folder / transport
        place.mkdir()
        with on_core(cores.server), servers(place, transport=transport) as (_, issuer, _process):
            target = Target(issuer.address, ISSUER_DNS_NAME, place, (issuer.pid,))
            rows += [{"transport": transport, **row} for row in _of(target, runs, seconds, cores)]
    return rows


def _of(target: Target, runs: int, seconds: float, cores: Apart) -> list[dict[str, object]]:
    _measured(target, Load(UNLOADED_CALLERS, 1.0), cores)  # warm
    found: dict[str, list[_Run]] = {}
    for _ in range(runs):  # all in each turn: what a crowded machine can do changes from minute to minute
        calm = _measured(target, Load(UNLOADED_CALLERS, seconds), cores)
        full = _measured(target, Load(PEAK_CALLERS, seconds), cores)
        found.setdefault(f"{UNLOADED_CALLERS} callers", []).append(calm)
        found.setdefault(f"{PEAK_CALLERS} callers", []).append(full)
        for clients, load in _overloads(2 * full.report.goodput, seconds):
            found.setdefault(clients, []).append(_measured(target, load, cores))
    calm_rows, full_rows, *over = (_row(clients, each) for clients, each in found.items())
    return [calm_rows, full_rows, *(_beside(row, calm_rows, full_rows) for row in over)]


def _overloads(rate: float, seconds: float) -> list[tuple[str, Load]]:
    # So many callers share the rate that each would be late only after more than a second.
    lasting = seconds + LEAD_SECONDS
    fixed = Load(int(rate), lasting, CONNECTIONS, rate=rate, lead=LEAD_SECONDS)
    obeying = Load(int(rate * THINK_SECONDS), lasting, CONNECTIONS, think=THINK_SECONDS, obey=True, lead=LEAD_SECONDS)
    return [("twice the peak, fixed rate", fixed), ("twice the peak, obey RetryInfo", obeying)]


def _measured(target: Target, load: Load, cores: Apart) -> _Run:
    before = busy_seconds(cores.server) if cores.server is not None else 0.0
    with on_core(cores.load):
        report = run(target, WORK["token"], load)
    if cores.server is None:
        return _Run(report, 0.0)
    others = busy_seconds(cores.server) - before - report.server_cpu_seconds
    return _Run(report, max(others, 0.0) / report.seconds)


def _row(clients: str, found: list[_Run]) -> dict[str, object]:
    columns = [_figures(each) for each in found]
    medians = {name: round(statistics.median(column[name] for column in columns), 2) for name in columns[0]}
    return {"clients": clients, **medians}


def _figures(each: _Run) -> dict[str, float]:
    report = each.report
    asked = sum(report.codes.values())
    refused = report.codes.get(REFUSED, 0)
    return {
        "offered_s": asked / report.seconds,
        "served_s": report.goodput,
        "refused_s": refused / report.seconds,
        "failed": asked - refused - report.calls,
        "late": report.late,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "cpu_us": report.server_cpu_seconds / max(report.calls, 1) * 1e6,
        "others": each.others,
        "answered": report.calls / asked,
    }


def _beside(row: dict[str, object], calm: dict[str, object], full: dict[str, object]) -> dict[str, object]:
    """Add what a row is beside the figures to reach, and what one refusal took of the CPU of one token."""

    def ratio(name: str, of: dict[str, object]) -> float:
        return float(str(row[name])) / float(str(of[name]))

    answered = float(str(row["answered"]))
    refusal = (ratio("cpu_us", full) - 1) * answered / max(1 - answered, 0.001)
    return row | {
        "of_peak": round(ratio("served_s", full), 2),
        "of_unloaded_p99": round(ratio("p99_ms", calm), 1),
        "refusal_of_token": round(refusal, 2),
    }
