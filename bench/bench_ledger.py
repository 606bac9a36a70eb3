"""What the ledger costs: beside the same server without it, beside the disk's own fsync; and how fast it is read."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support.postgres import PostgresServer

from bench.ledger_rows import fill
from bench.serving import Figures, Server, measure, median, servers
from issuer.core.instants import microseconds
from issuer.ledger import reports
from issuer.ledger.reading import LedgerReader
from issuer.ports import DecisionsWanted
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

CALLERS = (1, 64)
DAY = 86_400 * 1_000_000


def measure_ledger(console: Console, folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Measure tokens without a ledger, with SQLite and with PostgreSQL, in turn."""
    kinds: dict[str, dict[str, object]] = {
        "nothing": {"module": "bench.unrecorded_issuer"},
        "SQLite": {},
    }
    with ExitStack() as stack:
        if (database := _postgres(console, stack, folder)) is not None:
            kinds["PostgreSQL"] = {"options": {"ledger": {"file": None, "postgresql": database}}}
        started: dict[str, Server] = {}
        for kind, changes in kinds.items():
            place = folder / kind
            place.mkdir()
            null, server, _ = stack.enter_context(servers(place, **changes))  # type: ignore[arg-type]
            started[kind] = server
        found: dict[tuple[str, int], list[Figures]] = {}
        for run in range(1, runs + 1):
            for callers in CALLERS:
                console.print(f"ledger, run {run} of {runs}, {callers} callers", style="dim")
                found.setdefault(("null RPC", callers), []).append(
                    measure(null, folder / kind, "null", callers, seconds)
                )
                for kind, server in started.items():
                    found.setdefault((kind, callers), []).append(
                        measure(server, folder / kind, "token", callers, seconds)
                    )
    fsync = fsync_seconds(folder)
    figures = {key: median(measured) for key, measured in found.items()}
    return [_row(kind, callers, figures, fsync) for kind, callers in figures]


def _row(kind: str, callers: int, figures: dict[tuple[str, int], Figures], fsync: float) -> dict[str, object]:
    mine, without, null = (figures[each, callers] for each in (kind, "nothing", "null RPC"))
    row: dict[str, object] = {
        "ledger": kind,
        "callers": callers,
        "tokens_s": round(mine.requests_per_second),
        "p50_ms": round(mine.p50_ms, 2),
        "p99_ms": round(mine.p99_ms, 2),
        "cpu_us": round(mine.cpu_us_per_request),
    }
    if kind not in {"nothing", "null RPC"}:
        row["of_without"] = round(mine.requests_per_second / without.requests_per_second, 2)
        row["ledger_cpu_us"] = round(mine.cpu_us_per_request - without.cpu_us_per_request)
        row["over_null_in_fsyncs"] = round((mine.p50_ms - null.p50_ms) / 1e3 / fsync, 1)
        row["over_without_in_fsyncs"] = round((mine.p50_ms - without.p50_ms) / 1e3 / fsync, 1)
    return row


def _postgres(console: Console, stack: ExitStack, folder: Path) -> str | None:
    place = folder / "postgres"
    place.mkdir()
    folder.chmod(0o755)  # the server runs as another user than root
    try:
        return stack.enter_context(PostgresServer(place)).new_database()
    except (OSError, LookupError, AssertionError) as error:
        console.print(f"PostgreSQL is left out: {error}")
        return None


def fsync_seconds(folder: Path, times: int = 300) -> float:
    """Return the median of a write of 4 KiB and its fsync, in seconds."""
    path = folder / "fsync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)
    finally:
        os.close(descriptor)
        path.unlink()


def measure_reading(console: Console, rows: int) -> list[dict[str, object]]:
    """Fill a ledger and measure what people ask of it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.sqlite3"
        console.print(f"a ledger of {rows:,} decisions is made", style="dim")
        asyncio.run(fill(path, rows))
        size = path.stat().st_size
        reader = LedgerReader.sqlite(path)
        now = microseconds(SystemClock().now())
        middle = reader.after(DecisionsWanted(), rows // 2, 1)[0].record
        caller = middle.caller
        asked: dict[str, Callable[[], object]] = {
            "list, the newest 50": lambda: reader.newest(DecisionsWanted(), 50),
            "list, of one caller": lambda: reader.newest(DecisionsWanted(caller=caller), 50),
            "show, by decision id": lambda: reader.find(_uuid(middle.decision_id)),
            "show, by token id": lambda: reader.find(middle.token_id or "x"),
            "denials of 24 h, 1,000,000 in it": lambda: reports.denials(
                reader, since=now - DAY, until=now + DAY, limit=50
            ),
            "shared identities of 24 h": lambda: list(reports.uses(reader, since=now - DAY, until=now + DAY)),
            "top of 24 h": lambda: reports.top(reader, since=now - DAY, until=now + DAY, now=now, limit=10),
        }
        found: list[dict[str, object]] = [{"asked": "bytes a decision, with indexes", "p50": round(size / rows)}]
        for what, ask in asked.items():
            times = 3 if "24 h" in what else 20
            taken = sorted(_timed(ask) for _ in range(times))
            found.append(
                {"asked": what, "p50": f"{taken[times // 2] * 1e3:.1f} ms", "most": f"{taken[-1] * 1e3:.1f} ms"}
            )
        return found


def _uuid(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
