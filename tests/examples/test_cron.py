"""A job of cron, by the README's command and by the crontab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.examples import ROOT, commands, run

if TYPE_CHECKING:
    from pathlib import Path

Environment = dict[str, str]
CRONTAB = ROOT / "examples/cron/crontab"


def test_the_job_reads_the_ledger(settler: Environment, ledger: str) -> None:
    done = run(commands()["cron/"].replace("127.0.0.1:8000", ledger), settler)
    assert (done.returncode, done.stdout) == (0, "2 entries in the ledger\n")


def test_the_job_does_not_begin_without_a_token(reader: Environment, ledger: str) -> None:
    done = run(commands()["cron/"].replace("127.0.0.1:8000", ledger), reader)
    assert (done.returncode, done.stdout) == (3, "")
    assert "AUDIENCE_NOT_ALLOWED" in done.stderr


def test_the_crontab_does_the_same(settler: Environment, ledger: str, tmp_path: Path) -> None:
    """As cron does it: each assignment is the job's environment, and the rest of a line goes to /bin/sh."""
    lines = [line for line in CRONTAB.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    *assignments, job = lines
    environment = dict(line.split("=", 1) for line in assignments)
    here = {name: settler[name] for name in ("SPIFFE_ENDPOINT_SOCKET", "SPIFFE_ISSUER_ADDRESS", "PATH")}
    assert environment.keys() == here.keys()
    command = job.split(maxsplit=5)[5]
    command = command.replace("/opt/ledger/", f"{ROOT}/examples/cron/")
    command = command.replace("https://ledger.prod.example/entries", f"http://{ledger}/entries")
    done = run(command, here | {"HOME": str(tmp_path)}, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "2 entries in the ledger\n")
