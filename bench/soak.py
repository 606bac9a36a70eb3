"""Runs the issuer for long, under load and while everything changes, and looks at what grows: ``make soak``.

Two workers, a fixed rate of tokens, and in turn: a policy that is edited, SVIDs that rotate, a signing key that is
activated and the next one prepared, a worker that is killed. All workers are replaced once; of those that come then one
lives on, so that its growth is seen. A short run has too few samples to tell growth: it tells whether calls fail.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.load import WORK, Load, Report, Target, run
from bench.processes import Process, processes
from bench.serving import POLICY, TRUST_DOMAIN, issuer_settings, write_credentials
from bench.soak_verdict import WORKER_KILLED, WORKERS_REPLACED, Sample, failed_calls, faults, growth, lasting
from issuer.cli.admin_client import AdminClient
from issuer_api.v1 import admin_service_pb2 as pb
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess
from issuer_testing.spire.authority import DEFAULT_TTL
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "soak.json"
RATE, CALLERS = 100.0, 16
INTERVAL_SECONDS = 20.0
"""Between two changes; the p99 of each such part is kept. Each key is active for six of them, and is published for 12
minutes after that, so shorter ones are for short runs: no more than 16 keys are published."""
RENEWED_SECONDS = DEFAULT_TTL.total_seconds() / 2
"""After so long callers take new SVIDs: half of the life of theirs, as SPIRE's agent has it."""
KEY_SET_MAX_AGE = "5s"
"""With what else a next key waits for, less than six intervals of ten seconds."""
REPLACED_AFTER = 1 / 3
"""Of the run, all workers are replaced: one that comes then has the rest to grow in."""
OPERATOR = f"spiffe://{TRUST_DOMAIN}/admin/operator"
WORKER = "issuer.workers.child"


@dataclass(frozen=True)
class Part:
    """One part of the run: what was changed in it, and what its callers saw."""

    change: str
    minute: float
    calls: int
    codes: dict[str, int]
    p99_ms: float


class Soak:
    """An issuer under test, and what is done to it."""

    def __init__(self, folder: Path, authority: DevelopmentAuthority, transport: str) -> None:
        self._folder = folder
        self._authority = authority
        self._workload = authority.workload(
            Entry(f"spiffe://{TRUST_DOMAIN}/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,))
        )
        self._renewed = float("-inf")
        self._operator = authority.workload(Entry(OPERATOR))
        options: dict[str, dict[str, object]] = {
            "server": {"workers": 2, "transport": transport},
            "admin": {"operators": [OPERATOR]},
            "http": {"key_set_max_age": KEY_SET_MAX_AGE},
        }
        self._settings = issuer_settings(folder, self._workload.socket, options=options)
        self._edits = 0
        self.issuer = IssuerProcess(self._settings)

    def changes(self) -> dict[str, Callable[[], None]]:
        """Return what is done, by name."""
        return {
            "nothing": lambda: None,
            "policy edited": self._edit_policy,
            "SVIDs rotated": self._rotate,
            "key changed": self._change_key,
            WORKER_KILLED: self._kill_youngest,
        }

    def replace_workers(self) -> None:
        """Have all workers replaced."""
        self.issuer.signal(signal.SIGUSR2)

    def load(self, seconds: float) -> Report:
        """Ask for tokens, and return what came of it."""
        if time.monotonic() - self._renewed > RENEWED_SECONDS:
            write_credentials(self._folder, self._authority.authority)
            self._renewed = time.monotonic()
        target = Target(self.issuer.address, ISSUER_DNS_NAME, self._folder, (self.issuer.pid,))
        return run(target, WORK["token"], Load(CALLERS, seconds, rate=RATE))

    def sample(self, seconds: float) -> list[Sample]:
        """Return what each process holds now."""
        return [
            Sample(seconds, each.pid, each.name, each.resident_bytes, each.descriptors)
            for each in processes(self.issuer.pid)
        ]

    def _edit_policy(self) -> None:
        self._edits += 1
        edited = POLICY.replace("max_ttl: 10m", f"max_ttl: {5 + self._edits % 5}m")
        (self._settings.policy / "load.yaml").write_text(edited)

    def _rotate(self) -> None:
        self._authority.rotate(self._workload)

    def _change_key(self) -> None:
        """Let the key that was prepared in the last round sign, and prepare another."""
        with AdminClient(
            self.issuer.address, workload_api=self._operator.socket, issuer_dns_name=ISSUER_DNS_NAME
        ) as client:
            for key in client.list_keys():
                if key.state == pb.KEY_STATE_NEXT:
                    client.activate_key(key.key_id, force=False)
            client.prepare_key()

    def _kill_youngest(self) -> None:
        workers = [each for each in processes(self.issuer.pid) if each.name == WORKER]
        os.kill(max(workers, key=_began).pid, signal.SIGKILL)


def _began(process: Process) -> float:
    return process.began


def main(
    minutes: Annotated[float, typer.Option(help="How long.", min=1)] = 60.0,
    interval: Annotated[float, typer.Option(help="Seconds between two changes.", min=10)] = INTERVAL_SECONDS,
    transport: Annotated[str, typer.Option(help="What carries the calls.")] = "grpcio",
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS,
) -> None:
    """Run it, tell what was seen, and end with 1 if something grows, gets slower or fails.

    Examples:
    python -m bench.soak --minutes 2 --interval 10 --transport native
    """
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory() as name,
        DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None) as authority,
    ):
        soak = Soak(Path(name), authority, transport)
        with soak.issuer:
            parts, samples = _run(console, soak, minutes * 60, interval)
    found = faults(samples, [(part.minute * 60, part.p99_ms) for part in parts], minutes * 60)
    found += failed_calls([(part.change, part.codes) for part in parts])
    output.parent.mkdir(parents=True, exist_ok=True)
    grew = [growth(each)._asdict() for each in lasting(samples)]
    document = {"minutes": minutes, "parts": [asdict(each) for each in parts], "growth": grew, "faults": found}
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    console.print(f"wrote {output}", style="dim")
    for each in grew:
        console.print("{name} ({pid}): {mebibytes_an_hour:+.2f} MiB an hour, {minutes:.0f} min".format_map(each))
    for fault in found:
        console.print(f"[red]{fault}[/]")
    sys.exit(1 if found else 0)


def _run(console: Console, soak: Soak, seconds: float, interval: float) -> tuple[list[Part], list[Sample]]:
    parts: list[Part] = []
    samples: list[Sample] = []
    began = time.monotonic()
    changes = cycle(soak.changes().items())
    replaced = False
    while (passed := time.monotonic() - began) < seconds:
        if not replaced and passed >= seconds * REPLACED_AFTER:
            replaced, change, act = True, WORKERS_REPLACED, soak.replace_workers
        else:
            change, act = next(changes)
        act()
        report = soak.load(interval)
        samples += soak.sample(time.monotonic() - began)
        part = Part(change, round(passed / 60, 2), report.calls, dict(report.codes), report.p99_ms)
        parts.append(part)
        console.print(
            f"{part.minute:6.1f} min  {change:<17} {part.calls} calls, p99 {part.p99_ms:.1f} ms, {part.codes}"
        )
    return parts, samples


if __name__ == "__main__":
    typer.run(main)
