"""From single runs to medians and ratios: pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.suite_plan import GO_NULL, HANDSHAKES, SPIRE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import Report

Row = dict[str, object]


@dataclass(frozen=True)
class Run:
    """One run of one subject under one load.

    Attributes:
        subject: Its name.
        load: A number of callers, ``64 on 1`` (connection), or a kind of handshake.
        items: Tokens for each call.
        report: What came of it.
    """

    subject: str
    load: str
    items: int
    report: Report


def rows_of(runs: Sequence[Run], signature: float) -> dict[str, list[Row]]:
    """Return the medians of the calls, and of the handshakes, with their ratios to the references in the same runs.

    Args:
        runs: All of them.
        signature: CPU of one ES256 signature, in microseconds.
    """
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.subject, run.load), []).append(run)
    medians = {key: _medians(each) for key, each in grouped.items()}
    rows = [_row(subject, load, medians, signature) for subject, load in medians]
    return {
        "figures": [row for row in rows if row["load"] not in HANDSHAKES],
        "handshakes": [row for row in rows if row["load"] in HANDSHAKES],
    }


def _medians(runs: Sequence[Run]) -> dict[str, float]:
    columns = [_figures(run) for run in runs]
    found = {name: statistics.median(column[name] for column in columns) for name in columns[0]}
    costs = [column["cpu_us"] for column in columns]
    # How far apart the runs lie: a ratio that is nearer to 1 than this says nothing.
    found["spread"] = (max(costs) - min(costs)) / found["cpu_us"] if found["cpu_us"] else 0.0
    return found


def _figures(run: Run) -> dict[str, float]:
    report = run.report
    made = max(report.calls * run.items, 1)
    return {
        "per_second": report.calls * run.items / report.seconds,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "cpu_us": report.server_cpu_seconds / made * 1e6,
        "load_cpu_us": report.load_cpu_seconds / made * 1e6,
        "refused": 1 - report.codes.get("OK", 0) / max(sum(report.codes.values()), 1),
        "resumed": report.resumed / max(report.calls, 1),
    }


def _row(subject: str, load: str, medians: dict[tuple[str, str], dict[str, float]], signature: float) -> Row:
    mine = medians[subject, load]
    row: Row = {
        "subject": subject,
        "load": load,
        "per_second": round(mine["per_second"]),
        "p50_ms": round(mine["p50_ms"], 3),
        "p99_ms": round(mine["p99_ms"], 3),
        "cpu_us": round(mine["cpu_us"], 1),
        "spread": round(mine["spread"], 2),
        "load_cpu_us": round(mine["load_cpu_us"], 1),
        "of_spire": _ratio(mine, medians.get((SPIRE, load))),
        "of_go_null": _ratio(mine, medians.get((GO_NULL, load))),
    }
    if load in HANDSHAKES:
        return row | {"resumed": round(mine["resumed"], 2)}
    return row | {"refused": round(mine["refused"], 3), "signatures": round(mine["cpu_us"] / signature, 2)}


def _ratio(mine: dict[str, float], reference: dict[str, float] | None) -> float | None:
    """Return CPU beside the reference's under the same load; ``None`` where there is none."""
    if reference is None or not reference["cpu_us"]:
        return None
    return round(mine["cpu_us"] / reference["cpu_us"], 3)
