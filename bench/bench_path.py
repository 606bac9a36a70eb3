"""Where the CPU of a token goes, asked for alone or in a batch: the request path by its parts, timed where they run.

See ``bench/looped_issuer.py``.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from bench.loop_wanted import WANTED_FILE, Wanted
from bench.serving import TRUST_DOMAIN, identity_of_servers, issuer_settings, write_credentials
from issuer_testing.issuer_process import IssuerProcess
from issuer_testing.spire.embedded import DevelopmentAuthority

if TYPE_CHECKING:
    from pathlib import Path

CALLERS_OF = {"token": 16, "batch": 2}
REPORT = "report.json"
REST = "everything else: event loop, coroutines, ASGI, the queue of the ledger"


def measure_path(folder: Path, *, work: str, runs: int, seconds: float) -> list[dict[str, object]]:
    """Return the parts with what each takes of a token, the largest first; then the rest, and the whole.

    Args:
        folder: Where the issuers keep what they need.
        work: ``token``, or ``batch`` for one of a batch.
        runs: So many, of which the medians count.
        seconds: Each of the three courses of a run.
    """
    with DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None) as authority:
        write_credentials(folder, authority.authority)
        socket = identity_of_servers(authority)
        found = []
        for run in range(runs):
            place = folder / str(run)
            place.mkdir()
            found.append(_run(place, socket, Wanted(str(folder), CALLERS_OF[work], seconds, str(place / REPORT), work)))
    of = statistics.median
    timer = _timer_microseconds()
    parts = {
        name: max(of(each["parts"][name] - timer * each["times"][name] for each in found), 0.0)
        for name in found[0]["parts"]
    }
    whole = of(each["cpu_us"] for each in found)
    rows: list[dict[str, object]] = [
        {"part": name, "us": round(taken, 1), "of_all": f"{taken / whole:.0%}"}
        for name, taken in sorted(parts.items(), key=lambda item: -item[1])
    ]
    rest = whole - sum(parts.values())
    rows.append({"part": REST, "us": round(rest, 1), "of_all": f"{rest / whole:.0%}"})
    return [*rows, {"part": "together, without the timers", "us": round(whole, 1), "of_all": ""}]


def _run(place: Path, socket: str, wanted: Wanted) -> dict[str, Any]:
    issuer = IssuerProcess(issuer_settings(place, socket, transport="h2corn", module="bench.looped_issuer"))
    report = place / REPORT
    (place / "issuer").mkdir()
    (place / "issuer" / WANTED_FILE).write_text(json.dumps(wanted._asdict()))
    issuer.spawn()
    issuer.wait(60 + 4 * wanted.seconds)
    if not report.exists():
        raise SystemExit(f"the request path could not be measured: {issuer.log()[-5:]}")
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def _timer_microseconds(times: int = 20_000) -> float:
    """Return what a timer adds to the time of the part that it is around: one look at the clock."""
    began = time.thread_time()
    for _ in range(times):
        time.thread_time()
    return (time.thread_time() - began) / times * 1e6
