"""What is left of the issuer when twice as much is asked as it can do."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.serving import measure, servers

if TYPE_CHECKING:
    from pathlib import Path

    from bench.serving import Server

UNLOADED_CALLERS = 16
PEAK_CALLERS = 64


def measure_overload(folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Measure the peak, and then twice that from clients that obey RetryInfo and from such that do not."""
    with servers(folder) as (_, issuer, _process):
        unloaded, peaks = [], []
        measure(issuer, folder, "token", UNLOADED_CALLERS, 1.0)  # warm
        for _ in range(runs):
            unloaded.append(measure(issuer, folder, "token", UNLOADED_CALLERS, seconds))
            peaks.append(measure(issuer, folder, "token", PEAK_CALLERS, seconds))
        of = statistics.median
        peak = of(each.requests_per_second for each in peaks)
        p99 = of(each.p99_ms for each in unloaded)
        rows: list[dict[str, object]] = [
            {"clients": f"{callers} callers", "served_s": round(of(each.requests_per_second for each in found)),
             "p99_ms": round(of(each.p99_ms for each in found), 1)}
            for callers, found in ((UNLOADED_CALLERS, unloaded), (PEAK_CALLERS, peaks))
        ]  # fmt: skip
        for how in ("obey", "ignore"):
            found = [_loaded(issuer, folder, 2 * peak, seconds, how) for _ in range(runs)]
            row = {key: of(each[key] for each in found) for key in found[0]}
            rows.append(
                {
                    "clients": f"twice the peak, {how} RetryInfo",
                    **{key: round(value, 1) for key, value in row.items()},
                    "of_peak": round(row["served_s"] / peak, 2),
                    "of_unloaded_p99": round(row["p99_ms"] / p99, 1),
                }
            )
    return rows


def _loaded(server: Server, folder: Path, rate: float, seconds: float, how: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.overload_load", server.address, str(folder), str(rate), str(seconds), how]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    values: dict[str, float] = json.loads(report)
    return values
