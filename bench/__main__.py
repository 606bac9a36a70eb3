"""Runs the measurements and prints a table; the figures also go to ``bench/results/latest.json``."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import typer
from rich.console import Console
from rich.table import Table

from bench.load import AUDIENCE, BATCH_ITEMS, SCOPE
from bench.process_cpu import cpu_seconds
from bench.signature import microseconds_per_signature
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess, IssuerSettings
from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "latest.json"
CALLERS = (1, 16, 64)
TRUST_DOMAIN = "dev.test"
CALLER = f"spiffe://{TRUST_DOMAIN}/ns/payments/sa/settler"
POLICY = f"""\
version: 1
audiences:
  - name: {AUDIENCE}
    application: ledger
    max_ttl: 10m
    scopes: [{{name: {SCOPE}, risk: low}}]
grants:
  - {{id: bench, owner: bench, workloads: ["{CALLER}"], audience: "{AUDIENCE}", scopes: [{SCOPE}]}}
"""


@dataclass(frozen=True)
class Server:
    """A server under test."""

    address: str
    pid: int


@dataclass(frozen=True)
class Figures:
    """One run of one kind of work."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float


Rows = dict[tuple[str, int], Figures]
"""Figures by kind of work and number of callers."""


def measure(server: Server, folder: Path, work: str, callers: int, seconds: float) -> Figures:
    """Put load on a server and return what it cost it."""
    command = [sys.executable, "-m", "bench.load", server.address, str(folder), work, str(callers), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None  # noqa: S101 - for the type checker: opened as pipes
        assert load.stdout is not None  # noqa: S101
        load.stdout.readline()
        before = cpu_seconds(server.pid)
        load.stdin.write("go\n")
        load.stdin.flush()
        report = load.stdout.readline()
        used = cpu_seconds(server.pid) - before
    if load.returncode:
        raise SystemExit(f"the load generator failed on {work} with {callers} callers")
    values = json.loads(report)
    return Figures(
        values["calls"] / values["seconds"], values["p50_ms"], values["p99_ms"], used / values["calls"] * 1e6
    )


def median(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    columns = [asdict(run) for run in runs]
    return Figures(**{name: statistics.median(column[name] for column in columns) for name in columns[0]})


@contextmanager
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Start the null server and the issuer, with one identity for both, and files for the load generator."""
    with ExitStack() as stack:
        authority = stack.enter_context(DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None))
        identity = authority.workload(Entry(f"spiffe://{TRUST_DOMAIN}/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,)))
        _write_credentials(folder, authority)
        (folder / "policy.yaml").write_text(POLICY)
        settings = IssuerSettings(folder / "issuer", folder / "policy.yaml", identity.socket, insecure_dev=True)
        issuer = stack.enter_context(IssuerProcess(settings))
        command = [sys.executable, "-m", "bench.null_server", identity.socket]
        null = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )
        stack.callback(null.terminate)
        assert null.stdout is not None  # noqa: S101 - for the type checker: opened as a pipe
        yield Server(null.stdout.readline().strip(), null.pid), Server(issuer.address, issuer.pid)


def _write_credentials(folder: Path, authority: DevelopmentAuthority) -> None:
    svid = authority.authority.issue(CALLER)
    (folder / "chain.pem").write_bytes(svid.chain_pem())
    (folder / "key.pem").write_bytes(svid.key_pem())
    (folder / "roots.pem").write_bytes(pem_bundle([authority.authority.root]))


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


def main(
    runs: Annotated[int, typer.Option(help="Runs of each measurement; the median counts.", min=3)] = 3,
    seconds: Annotated[float, typer.Option(help="Length of each run.")] = 4.0,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Measure IssueToken at 1, 16 and 64 callers and batches of 64, beside a null RPC and a bare signature."""
    console = Console()
    rows: dict[tuple[str, int], list[Figures]] = {}
    signatures: list[float] = []
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (null, issuer):
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
    _write(output, medians, signature, runs=runs, seconds=seconds)
    console.print(f"wrote {output}", style="dim")


def _plan(null: Server, issuer: Server) -> list[tuple[Server, str, int]]:
    plan = [(server, work, callers) for callers in CALLERS for server, work in ((null, "null"), (issuer, "token"))]
    return [*plan, (issuer, "batch", 1), (issuer, "batch", 16)]


def _write(output: Path, rows: Rows, signature: float, *, runs: int, seconds: float) -> None:
    document = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "grpcio": grpc.__version__},
        "runs": runs,
        "seconds": seconds,
        "batch_items": BATCH_ITEMS,
        "es256_signature_us": signature,
        "figures": [
            {"work": work, "callers": callers, **asdict(figures), "ratio": ratio(rows, work, callers, signature)}
            for (work, callers), figures in rows.items()
        ],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
