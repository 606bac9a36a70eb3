"""``spiffe-token`` as a user runs it, as one workload of a deployment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from issuer_testing.deadline import wait_until
from support.deployment import LEDGER, SETTLER, Deployment

if TYPE_CHECKING:
    from issuer_testing.spire.embedded import EmbeddedWorkload

PROGRAM = (sys.executable, "-m", "agent_client")
READ = ("--audience", LEDGER, "--scope", "ledger.read")
SECONDS = 60.0
SHORT_LIVED = f"""\
version: 1
audiences:
  - {{name: "{LEDGER}", application: ledger, max_ttl: 10s, scopes: [{{name: ledger.read, risk: low}}]}}
grants:
  - {{id: reads, owner: payments-team, workloads: ["{SETTLER}"], audience: "{LEDGER}", scopes: [ledger.read]}}
"""
"""Tokens that live for as short as an issuer lets them."""
NOTHING = SHORT_LIVED.partition("grants:")[0] + "grants: []\n"


@dataclass(frozen=True)
class SpiffeToken:
    """The command, with the environment of one workload."""

    deployment: Deployment
    workload: EmbeddedWorkload

    def environment(self, **variables: str) -> dict[str, str]:
        return os.environ | {
            "SPIFFE_ENDPOINT_SOCKET": self.workload.socket,
            "SPIFFE_ISSUER_ADDRESS": self.deployment.issuer.address,
            "XDG_RUNTIME_DIR": str(self.deployment.settings.folder),  # what a test kills leaves its folder there
            **variables,
        }

    def run(self, *arguments: str, given: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        ended = subprocess.run(
            [*PROGRAM, *arguments],
            check=False,
            capture_output=True,
            input=given,
            text=True,
            env=self.environment(**variables),
            timeout=SECONDS,
        )
        assert "Traceback" not in ended.stderr
        return ended

    def start(
        self, *arguments: str, before: tuple[str, ...] = (), variables: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start it, with standard output and error as pipes unless told otherwise. Use it with ``with``, and end it."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*before, *PROGRAM, *arguments], text=True, env=self.environment(**(variables or {})), **(pipes | options)
        )


def line_of(stream: IO[str] | None) -> str:
    """Wait for the next line, without its line feed."""
    assert stream is not None
    return stream.readline().rstrip("\n")


def text_when_there(path: Path, *, other_than: str = "") -> str:
    """Wait for a file with other text, and return that."""

    def found() -> str:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return "" if text == other_than else text

    return wait_until(found, what=f"{path.name} has another text", seconds=SECONDS)


def is_alive(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
