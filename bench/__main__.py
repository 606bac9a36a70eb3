"""Runs the measurements and prints tables; the figures also go to ``bench/results/latest.json``."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import typer
from rich.console import Console
from rich.table import Table

from bench.bench_client import measure_client
from bench.bench_engines import measure_cedar, measure_opa
from bench.bench_ledger import fsync_seconds, measure_ledger, measure_reading
from bench.bench_mass_revocation import measure_mass_revocation
from bench.bench_overload import measure_overload
from bench.bench_path import CALLERS_OF, measure_path
from bench.bench_policy import measured as measure_policy
from bench.bench_reload import measure_reload
from bench.bench_revocation import measure_revocation
from bench.bench_status import measure_status
from bench.bench_suite import measure_suite
from bench.bench_telemetry import measure_pieces, measure_telemetry
from bench.bench_transport import measure_transports
from bench.bench_workers import measure_workers
from bench.load import BATCH_ITEMS
from bench.serving import Figures, Server, measure, median, servers
from bench.signature import microseconds_per_signature
from bench.suite_table import suite_plot, suite_table
from bench.transports import here

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "latest.json"
CALLERS = (1, 16, 64)
Rows = dict[tuple[str, int], Figures]
"""Figures by kind of work and number of callers."""


def table(rows: Rows, signature: float) -> Table:
    """Return the figures for people, with the ratios that the targets are given in."""
    shown = Table(title="Over mutual TLS; CPU of the server's processes alone", title_justify="left")
    for heading in ("work", "callers", "calls/s", "p50 ms", "p99 ms", "CPU us", "ratio"):
        shown.add_column(heading, justify="left" if heading in {"work", "ratio"} else "right", no_wrap=True)
    for (work, callers), figures in rows.items():
        shown.add_row(
            work,
            str(callers),
            f"{figures.requests_per_second:,.0f}",
            f"{figures.p50_ms:.2f}",
            f"{figures.p99_ms:.2f}",
            f"{figures.cpu_us_per_request:,.0f}",
            ratio(rows, work, callers, signature),
        )
    shown.add_row("ES256 signature", "", "", "", "", f"{signature:.1f}", "")
    return shown


def ratio(rows: Rows, work: str, callers: int, signature: float) -> str:
    """Return what a row costs beside its reference; nothing for a reference."""
    cost = rows[work, callers].cpu_us_per_request
    if work == "token":
        return f"{cost / rows['null', callers].cpu_us_per_request:.2f} x null"
    if work == "batch":
        return f"{cost / BATCH_ITEMS / signature:.2f} x sign"
    return ""


class Part(StrEnum):
    """What can be measured alone."""

    SUITE = "suite"
    PATH = "path"
    SERVER = "server"
    POLICY = "policy"
    RELOAD = "reload"
    LEDGER = "ledger"
    CLIENT = "client"
    TELEMETRY = "telemetry"
    OVERLOAD = "overload"
    TRANSPORT = "transport"
    WORKERS = "workers"
    REVOCATION = "revocation"
    STATUS = "status"


WITHOUT_ONLY = (Part.SUITE, Part.OVERLOAD)
"""What is measured where nothing is chosen: what the figures to reach are about, in less than ten minutes."""
QUICK_SECONDS = 1.0
EXAMPLES = """Examples:

python -m bench                          the suite and the overload: under ten minutes

python -m bench --quick                  a look at the suite: half a minute, no figures to keep

python -m bench --only policy            one part alone

python -m bench --only overload --apart  with one core for the server and one for the load generator

python -m bench --all                    every part: about half an hour

make bench-compare OLD=before.json       what became worse since
"""


def main(  # noqa: PLR0917 - options, which people give by name
    runs: Annotated[int, typer.Option(help="Runs of each measurement; the median counts.", min=3)] = 3,
    seconds: Annotated[float | None, typer.Option(help="Length of each run; the suite's is 2, else 4.")] = None,
    only: Annotated[list[Part] | None, typer.Option(help="Measure this alone; may be repeated.")] = None,
    rows: Annotated[int, typer.Option(help="Decisions in the ledger that is read.")] = 10_000_000,
    output: Annotated[Path, typer.Option(help="Where the JSON goes; the suite's plot lies beside it.")] = RESULTS,
    every: Annotated[bool, typer.Option("--all", help="Measure every part.")] = False,  # noqa: FBT002
    quick: Annotated[bool, typer.Option("--quick", help="One short run of a small suite, to see it work.")] = False,  # noqa: FBT002
    apart: Annotated[  # noqa: FBT002
        bool, typer.Option("--apart", help="Overload: server and load generator on one core each.")
    ] = False,
) -> None:
    """Measure server, policy engine, reloads, ledger and client; each beside a reference in the same run."""
    console = Console(width=max(150, Console().width))
    parts = only or (list(Part) if every else [Part.SUITE] if quick else list(WITHOUT_ONLY))
    if quick:
        runs, seconds = 1, seconds or QUICK_SECONDS
    document: dict[str, object] = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "grpcio": grpc.__version__},
        "runs": runs,
        "seconds": seconds,
        "es256_signature_us": microseconds_per_signature(),
    }
    if Part.SUITE in parts:
        document["suite"] = _measure_suite(console, runs, seconds or SUITE_SECONDS, output, quick=quick)
    if Part.PATH in parts:
        document["path"] = _measure_path(console, "token", runs, seconds or SUITE_SECONDS)
        document["path_of_a_batch"] = _measure_path(console, "batch", runs, seconds or SUITE_SECONDS)
    document |= _measure_parts(console, parts, runs, seconds or PART_SECONDS, rows)
    if Part.OVERLOAD in parts:
        document["overload"] = _measure_overload(console, runs, seconds or PART_SECONDS, apart=apart)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"wrote {output}", style="dim")


def _measure_parts(console: Console, parts: list[Part], runs: int, seconds: float, rows: int) -> dict[str, object]:
    document: dict[str, object] = {}
    if Part.SERVER in parts:
        document |= _measure_server(console, runs, seconds)
    if Part.POLICY in parts:
        document["policy"] = _measure_engines(console)
    if Part.RELOAD in parts:
        document["reload"] = _measure_reload(console, runs, seconds)
    if Part.LEDGER in parts:
        document["ledger"] = _measure_ledger(console, runs, seconds, rows)
    if Part.CLIENT in parts:
        document["client"] = _measure_client(console)
    if Part.TELEMETRY in parts:
        document["telemetry"] = _measure_telemetry(console, runs, seconds)
    if Part.TRANSPORT in parts:
        document["transport"] = _measure_transports(console, runs, seconds)
    if Part.WORKERS in parts:
        document["workers"] = _measure_workers(console, runs, seconds)
    document |= _measure_told(console, parts)
    return document


def _measure_suite(console: Console, runs: int, seconds: float, output: Path, *, quick: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        found = measure_suite(console, Path(name), runs=runs, seconds=seconds, quick=quick)
    console.print(suite_table(found["figures"]))
    if found["handshakes"]:
        console.print(suite_table(found["handshakes"], "Connections made and closed; call: with one null RPC"))
    plot = output.with_suffix(".svg")
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(suite_plot(found["figures"]))
    console.print(f"wrote {plot}", style="dim")
    return found


def _measure_told(console: Console, parts: list[Part]) -> dict[str, object]:
    """Measure what is told in one line a figure."""
    document: dict[str, object] = {}
    for part, *measured in (
        (Part.REVOCATION, measure_revocation, measure_mass_revocation),
        (Part.STATUS, measure_status),
    ):
        if part not in parts:
            continue
        rows = [row for each in measured for row in _measured_apart(each)]
        document[part.value] = rows
        for row in rows:
            console.print(f"{row['what']}: {row['us']} us")
    return document


def _measured_apart(measured: Callable[[Path], list[dict[str, object]]]) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        return measured(Path(name))


def _measure_server(console: Console, runs: int, seconds: float) -> dict[str, object]:
    rows: dict[tuple[str, int], list[Figures]] = {}
    signatures: list[float] = []
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (null, issuer, _):
        for run in range(1, runs + 1):
            signatures.append(microseconds_per_signature())
            for server, work, callers in _plan(null, issuer):
                console.print(f"run {run} of {runs}: {work}, {callers} callers", style="dim")
                figures = measure(server, Path(name), work, callers, seconds)
                rows.setdefault((work, callers), []).append(figures)
    medians = {key: median(values) for key, values in rows.items()}
    signature = statistics.median(signatures)
    console.print(table(medians, signature))
    console.print(f"batch: {BATCH_ITEMS} tokens in one call; its ratio is for each token", style="dim")
    figures_listed = [
        {"work": work, "callers": callers, **asdict(figures), "ratio": ratio(medians, work, callers, signature)}
        for (work, callers), figures in medians.items()
    ]
    return {"batch_items": BATCH_ITEMS, "es256_signature_us": signature, "figures": figures_listed}


def _measure_path(console: Console, work: str, runs: int, seconds: float) -> list[dict[str, object]]:
    console.print("the request path, part by part", style="dim")
    with tempfile.TemporaryDirectory() as name:
        rows = measure_path(Path(name), work=work, runs=runs, seconds=seconds)
    what = "one token" if work == "token" else f"one token of a batch of {BATCH_ITEMS}"
    title = f"Where the CPU of {what} goes, without a transport, {CALLERS_OF[work]} callers"
    console.print(_listing(title, rows, list(rows[0])))
    return rows


def _measure_engines(console: Console) -> list[dict[str, object]]:
    """Measure ours without and with two conditions, and the others with two, at each size."""
    rows: list[dict[str, object]] = []
    for grants in SIZES:
        console.print(f"policy engines, {grants:,} grants", style="dim")
        for conditions in (False, True):
            name = f"ours, {2 if conditions else 0} conditions"
            rows.append({"engine": name, **measure_policy(grants, conditions=conditions)})
        for other in (measure_cedar, measure_opa):
            try:
                rows.append(other(grants))
            except LookupError as why:
                console.print(f"left out: {why}")
    first = {str(row["engine"]): float(str(row["decide_p50_us"])) for row in reversed(rows)}
    for row in rows:
        row["ratio_to_smallest"] = round(float(str(row["decide_p50_us"])) / first[str(row["engine"])], 2)
    console.print(_listing("One decision; memory is held by each process, not shared", rows, _ENGINE_COLUMNS))
    return rows


def _measure_reload(console: Console, runs: int, seconds: float) -> list[dict[str, object]]:
    console.print("reloads of 100,000 grants under load", style="dim")
    with tempfile.TemporaryDirectory() as name:
        rows = measure_reload(Path(name), runs=runs, seconds=seconds)
    for row in rows:
        row["p99_ratio"] = round(float(str(row["p99_ms_during"])) / float(str(row["p99_ms_before"])), 2)
    console.print(_listing("IssueToken while the policy is read again", rows, list(rows[0])))
    return rows


def _measure_ledger(console: Console, runs: int, seconds: float, rows: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        fsync = fsync_seconds(Path(name))
        written = measure_ledger(console, Path(name), runs=runs, seconds=seconds)
    columns = ["ledger", "callers", "tokens_s", "p50_ms", "p99_ms", "cpu_us", "of_without", "ledger_cpu_us",
               "over_null_in_fsyncs", "over_without_in_fsyncs"]  # fmt: skip
    console.print(_listing("IssueToken with its decision kept in different ledgers", written, columns))
    console.print(f"a write of 4 KiB with its fsync: {fsync * 1e3:.2f} ms", style="dim")
    read = measure_reading(console, rows)
    console.print(_listing(f"Reading a ledger of {rows:,} decisions in SQLite", read, ["asked", "p50", "most"]))
    return {"fsync_ms": fsync * 1e3, "written": written, "rows": rows, "read": read}


def _measure_client(console: Console) -> list[dict[str, object]]:
    rows = measure_client(console)
    console.print(_listing("The client, beside references in the same run", rows, list(rows[0])))
    return rows


def _measure_telemetry(console: Console, runs: int, seconds: float) -> dict[str, object]:
    pieces = measure_pieces()
    with tempfile.TemporaryDirectory() as name:
        rows = measure_telemetry(console, Path(name), runs=runs, seconds=seconds)
    columns = ["telemetry", "callers", "tokens_s", "p50_ms", "p99_ms", "cpu_us", "of_without"]
    console.print(_listing("IssueToken with its decision in SQLite, told to nobody and to others", rows, columns))
    console.print(_listing("Piece by piece, in one process", pieces, ["piece", "us"]))
    return {"served": rows, "pieces": pieces}


def _measure_overload(console: Console, runs: int, seconds: float, *, apart: bool) -> list[dict[str, object]]:
    console.print("twice the capacity", style="dim")
    with tempfile.TemporaryDirectory() as name:
        rows = measure_overload(Path(name), runs=runs, seconds=seconds, apart=apart)
    columns = [
        "transport",
        "clients",
        "offered_s",
        "served_s",
        "refused_s",
        "failed",
        "cpu_us",
        "p50_ms",
        "p99_ms",
        "of_peak",
        "of_unloaded_p99",
        "refusal_of_token",
        "others",
    ]
    console.print(_listing("IssueToken when more is asked than can be done", rows, columns))
    return rows


def _measure_transports(console: Console, runs: int, seconds: float) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        rows = measure_transports(console, Path(name), runs=runs, seconds=seconds)
    console.print(_listing("The same calls on each transport; CPU us of the server a call", rows, list(rows[0])))
    return rows


def _measure_workers(console: Console, runs: int, seconds: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for transport in reversed(here()):
        with tempfile.TemporaryDirectory() as name:
            rows += measure_workers(console, Path(name), transport=transport, turns=runs, seconds=seconds)
    console.print(
        _listing("A token with one worker and with two; CPU us of all processes a token", rows, list(rows[0]))
    )
    return rows


SUITE_SECONDS, PART_SECONDS = 2.0, 4.0
_TEXTS = frozenset(
    {"asked", "clients", "engine", "ledger", "measured", "part", "piece", "reference", "telemetry", "transport"}
)
"""The columns that hold words."""
SIZES = (100, 10_000, 100_000)
_ENGINE_COLUMNS = ["engine", "grants", "load_seconds", "resident_bytes_per_grant", "held_bytes", "decide_p50_us",
                   "decide_p99_us", "ratio_to_smallest"]  # fmt: skip


def _listing(title: str, rows: list[dict[str, object]], columns: list[str]) -> Table:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(
            column.replace("_", " "),
            justify="left" if column in _TEXTS else "right",
        )
    for row in rows:
        shown.add_row(*(str(row.get(column, "")) for column in columns))
    return shown


def _plan(null: Server, issuer: Server) -> list[tuple[Server, str, int]]:
    plan = [(server, work, callers) for callers in CALLERS for server, work in ((null, "null"), (issuer, "token"))]
    return [*plan, (issuer, "batch", 1), (issuer, "batch", 16)]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(epilog=EXAMPLES)(main)
    app()
