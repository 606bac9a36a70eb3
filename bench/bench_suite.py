"""The suite: our servers on each transport and each ledger, beside others in the same run, under the same load.

Every subject is started once, and they take turns: what else the machine does touches them all.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support.postgres import PostgresServer

from bench.load import WORK, Load, LoadFailed, Target, Work, run
from bench.reference_servers import go_null_server, oidc_provider, spire_server
from bench.serving import (
    TRUST_DOMAIN,
    identity_of_servers,
    issuer_settings,
    null_server,
    write_credentials,
)
from bench.signature import microseconds_per_signature
from bench.suite_figures import Run, rows_of
from bench.suite_plan import GO_NULL, HANDSHAKES, OIDC, SPIRE, Level, Subject, plan
from bench.transports import check
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess
from issuer_testing.spire.embedded import DevelopmentAuthority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

HANDSHAKERS = 4
WARM_UP_CALLERS, WARM_UP_SECONDS = 4, 0.5


@dataclass(frozen=True)
class Started:
    """A subject that serves."""

    subject: Subject
    target: Target
    work: Work


def measure_suite(console: Console, folder: Path, *, runs: int, seconds: float, quick: bool) -> dict[str, Any]:
    """Measure everything, and return the medians with their ratios, as rows, and what was left out and why."""
    found: list[Run] = []
    signatures: list[float] = []
    folder.chmod(0o755)  # PostgreSQL runs as another user than root
    with Servers(folder, console.print) as servers:
        started = servers.start(plan(quick=quick))
        for number in range(1, runs + 1):
            signatures.append(microseconds_per_signature())
            for level, each in _turns(started):
                console.print(f"run {number} of {runs}: {each.subject.name}, {level} callers", style="dim")
                report = run(each.target, each.work, Load(level.callers, seconds, level.connections))
                found.append(Run(each.subject.name, str(level), each.work.items, report))
            for how, each in _handshakes(started):
                console.print(f"run {number} of {runs}: {each.subject.name}, {how} handshakes", style="dim")
                report = run(each.target, each.work, Load(HANDSHAKERS, seconds, handshakes=how))
                found.append(Run(each.subject.name, how, 1, report))
    signature = statistics.median(signatures)
    return {"es256_signature_us": signature, "left_out": servers.left_out, **rows_of(found, signature)}


def _turns(started: list[Started]) -> Iterator[tuple[Level, Started]]:
    levels = sorted({level for each in started for level in each.subject.levels})
    return ((level, each) for level in levels for each in started if level in each.subject.levels)


def _handshakes(started: list[Started]) -> Iterator[tuple[str, Started]]:
    return ((how, each) for how in HANDSHAKES for each in started if each.subject.handshakes)


class Servers:
    """Starts what subjects need, and ends it with the context.

    Args:
        folder: Where they keep what they need.
        say: Told what is left out, and why.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._stack = ExitStack()
        self._authority = DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None)
        self._socket = ""
        self._postgres: PostgresServer | None = None
        self._issuers: dict[tuple[str | None, str | None, int], Target] = {}
        self.left_out: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._stack.enter_context(self._authority)
        self._socket = identity_of_servers(self._authority)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, subjects: list[Subject]) -> list[Started]:
        """Start each; one that cannot be had here is left out, and the reason is kept."""
        started = []
        for subject in subjects:
            try:
                target, work = self._started(subject)
                run(target, work, Load(WARM_UP_CALLERS, WARM_UP_SECONDS))
                started.append(Started(subject, target, work))
            except (LookupError, LoadFailed) as why:
                self.left_out[subject.name] = str(why)
                self._say(f"left out: {subject.name}: {why}")
        return started

    def _started(self, subject: Subject) -> tuple[Target, Work]:
        folder = self._folder / subject.name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        check(subject.transport)
        if subject.name == SPIRE:
            return self._stack.enter_context(spire_server(folder))
        if subject.name == OIDC:
            return self._stack.enter_context(oidc_provider(folder, self._authority.authority))
        if subject.name == GO_NULL:
            return self._stack.enter_context(go_null_server(folder, self._authority.authority))
        write_credentials(folder, self._authority.authority)
        if subject.work == "null":
            server = self._stack.enter_context(null_server(self._socket, subject.transport or ""))
            return Target(server.address, ISSUER_DNS_NAME, folder, (server.pid,)), WORK["null"]
        kind = subject.transport, subject.ledger, subject.workers
        if kind not in self._issuers:
            self._issuers[kind] = self._issuer(folder, subject)
        return self._issuers[kind], WORK[subject.work]

    def _issuer(self, folder: Path, subject: Subject) -> Target:
        options: dict[str, dict[str, object]] = {"server": {"transport": subject.transport, "workers": subject.workers}}
        more: tuple[int, ...] = ()
        if subject.ledger == "PostgreSQL":
            database = self._database()
            options["ledger"] = {"file": None, "postgresql": database.new_database()}
            more = (database.pid,)
        module = "bench.unrecorded_issuer" if subject.ledger == "no ledger" else "issuer"
        settings = issuer_settings(
            folder, self._socket, module=module, options=options, transport=subject.transport or ""
        )
        issuer = self._stack.enter_context(IssuerProcess(settings))
        return Target(issuer.address, ISSUER_DNS_NAME, folder, (issuer.pid, *more))

    def _database(self) -> PostgresServer:
        if self._postgres is None:
            place = self._folder / "postgres"
            place.mkdir()
            try:
                self._postgres = self._stack.enter_context(PostgresServer(place))
            except (OSError, AssertionError) as error:
                raise LookupError(str(error)) from error
        return self._postgres
