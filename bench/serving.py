"""Servers under test, and how load is put on them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.load import AUDIENCE, SCOPE
from bench.process_cpu import cpu_seconds
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess, IssuerSettings
from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
def servers(
    folder: Path,
    *,
    more_policy: bytes = b"",
    module: str = "issuer",
    options: Mapping[str, Mapping[str, object]] | None = None,
    transport: str = "grpcio",
) -> Iterator[tuple[Server, Server, IssuerProcess]]:
    """Start the null server and the issuer, with one identity for both, and files for the load generator.

    Args:
        folder: Where they keep what they need.
        more_policy: A file of policy beside the one that lets the load generator in.
        module: What runs as the issuer.
        options: More settings of the issuer, by section.
        transport: What carries the calls to both.
    """
    with ExitStack() as stack:
        authority = stack.enter_context(DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None))
        identity = authority.workload(Entry(f"spiffe://{TRUST_DOMAIN}/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,)))
        _write_credentials(folder, authority)
        policy = folder / "policy"
        policy.mkdir()
        (policy / "load.yaml").write_text(POLICY)
        if more_policy:
            (policy / "more.yaml").write_bytes(more_policy)
        settings = IssuerSettings(
            folder / "issuer",
            policy,
            identity.socket,
            insecure_dev=True,
            module=module,
            options={"server": {"transport": transport}, **(options or {})},
        )
        issuer = stack.enter_context(IssuerProcess(settings))
        command = [sys.executable, "-m", "bench.null_server", identity.socket, transport]
        null = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )
        stack.callback(null.terminate)
        assert null.stdout is not None  # noqa: S101 - for the type checker: opened as a pipe
        yield Server(null.stdout.readline().strip(), null.pid), Server(issuer.address, issuer.pid), issuer


def _write_credentials(folder: Path, authority: DevelopmentAuthority) -> None:
    svid = authority.authority.issue(CALLER)
    (folder / "chain.pem").write_bytes(svid.chain_pem())
    (folder / "key.pem").write_bytes(svid.key_pem())
    (folder / "roots.pem").write_bytes(pem_bundle([authority.authority.root]))
