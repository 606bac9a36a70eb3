"""What a reload costs the calls that are answered meanwhile: a policy of 100,000 grants, read again and again."""

from __future__ import annotations

import signal
import statistics
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from bench.bench_policy import policy_text
from bench.serving import measure, servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.serving import Server
    from issuer_testing.issuer_process import IssuerProcess

GRANTS = 100_000
CALLERS = (1, 16)
_RELOAD_SECONDS = 300.0


def measure_reload(folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Return p50 and p99 of IssueToken before and during reloads, in milliseconds, by number of callers."""
    with servers(folder, more_policy=policy_text(GRANTS)) as (_, issuer, process):
        return [_measured(process, issuer, folder, callers, runs=runs, seconds=seconds) for callers in CALLERS]


def _measured(
    process: IssuerProcess, issuer: Server, folder: Path, callers: int, *, runs: int, seconds: float
) -> dict[str, object]:
    quiet, busy = [], []
    for _ in range(runs):
        quiet.append(measure(issuer, folder, "token", callers, seconds))
        with reloading(process):
            busy.append(measure(issuer, folder, "token", callers, seconds))
    figures: dict[str, object] = {"grants": GRANTS, "callers": callers}
    for when, measured in (("before", quiet), ("during", busy)):
        figures[f"p50_ms_{when}"] = round(statistics.median(run.p50_ms for run in measured), 3)
        figures[f"p99_ms_{when}"] = round(statistics.median(run.p99_ms for run in measured), 3)
    return figures


@contextmanager
def reloading(process: IssuerProcess) -> Iterator[None]:
    """Make the issuer read its policy again, one load after the other, until the end of the block."""
    enough = Event()

    def again() -> None:
        while not enough.is_set():
            seen = len(process.log())
            process.signal(signal.SIGHUP)
            process.wait_for("policy_reloaded", _RELOAD_SECONDS, after=seen)

    thread = Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
