"""Servers under test, and how load is put on them."""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.load import AUDIENCE, SCOPE, WORK, Load, Target, run
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess, IssuerSettings
from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from issuer_testing.spire.authority import Authority

    Options = Mapping[str, Mapping[str, object]]

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
    """Put load on a server, each caller on a connection of its own, and return what it cost it."""
    target = Target(server.address, ISSUER_DNS_NAME, folder, (server.pid,))
    load = Load(callers, seconds, handshakes="call" if work == "dial" else None)
    found = run(target, WORK[work], load)
    return Figures(
        found.calls / found.seconds, found.p50_ms, found.p99_ms, found.server_cpu_seconds / found.calls * 1e6
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
    options: Options | None = None,
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
        write_credentials(folder, authority.authority)
        socket = identity_of_servers(authority)
        settings = issuer_settings(
            folder, socket, more_policy=more_policy, module=module, options=options, transport=transport
        )
        issuer = stack.enter_context(IssuerProcess(settings))
        null = stack.enter_context(null_server(socket, transport))
        yield null, Server(issuer.address, issuer.pid), issuer


def identity_of_servers(authority: DevelopmentAuthority) -> str:
    """Return the Workload API that gives the issuer and the null servers their one identity."""
    entry = Entry(f"spiffe://{TRUST_DOMAIN}/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,))
    return authority.workload(entry).socket


def issuer_settings(
    folder: Path,
    socket: str,
    *,
    more_policy: bytes = b"",
    module: str = "issuer",
    options: Options | None = None,
    transport: str = "grpcio",
) -> IssuerSettings:
    """Return how an issuer is started that lets the load generator in; arguments as for :func:`servers`."""
    policy = folder / "policy"
    policy.mkdir()
    (policy / "load.yaml").write_text(POLICY)
    if more_policy:
        (policy / "more.yaml").write_bytes(more_policy)
    return IssuerSettings(
        folder / "issuer",
        policy,
        socket,
        insecure_dev=True,
        module=module,
        options={"server": {"transport": transport}, **(options or {})},
    )


@contextmanager
def null_server(socket: str, transport: str) -> Iterator[Server]:
    """Start the server whose one method does nothing, on the issuer's own stack."""
    with child([sys.executable, "-m", "bench.null_server", socket, transport]) as (address, pid):
        yield Server(address, pid)


@contextmanager
def child(command: list[str]) -> Iterator[tuple[str, int]]:
    """Start a server that prints its address and ends with its standard input; give the address and the process id.

    Raises:
        LookupError: It ended at once.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker: opened as a pipe
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise LookupError(f"{' '.join(command[:3])} did not start")
            yield address, process.pid
        finally:
            process.terminate()


def write_credentials(folder: Path, authority: Authority) -> None:
    """Write what the load generator calls with."""
    svid = authority.issue(CALLER)
    (folder / "chain.pem").write_bytes(svid.chain_pem())
    (folder / "key.pem").write_bytes(svid.key_pem())
    (folder / "roots.pem").write_bytes(pem_bundle([authority.root]))
