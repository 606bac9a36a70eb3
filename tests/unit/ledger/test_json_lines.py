"""The copy of the ledger for log shippers, and what befalls its file."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs
from support.eventually import eventually_true
from support.ledgers import group_commit, record, refused, rows

from issuer.core.ledger_entries import Checkpoint, Event
from issuer.ledger.errors import LedgerFault
from issuer.ledger.json_lines import MAX_BEHIND, JsonLines
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from issuer.ledger.group_commit import GroupCommit


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


def json_lines(path: Path | str, *, required: bool, on_change: Callable[[], None] = lambda: None) -> JsonLines:
    return JsonLines(str(path), required=required, clock=SystemClock(), log=structlog.get_logger(), on_change=on_change)


@asynccontextmanager
async def ledger_with(copy: JsonLines, folder: Path) -> AsyncIterator[GroupCommit]:
    await copy.open()
    ledger = group_commit(SqliteLedger(folder / "ledger.sqlite3"), copy=copy)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()
        await copy.close()


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole: the last may be being written."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line]


def actions(path: Path) -> list[str]:
    return [line["event"]["action"] for line in lines(path)]


async def test_a_required_copy_is_there_when_write_returns(copied: Path, tmp_path: Path) -> None:
    async with ledger_with(json_lines(copied, required=True), tmp_path) as ledger:
        await ledger.write(record(), Event("x", 1, "", "{}"), Checkpoint("y"))
        assert actions(copied) == ["token-granted", "x"]
    assert copied.stat().st_mode & 0o777 == 0o640


async def test_a_best_effort_copy_follows(copied: Path, tmp_path: Path) -> None:
    async with ledger_with(json_lines(copied, required=False), tmp_path) as ledger:
        await ledger.write(*(record() for _ in range(300)))
        await eventually_true(lambda: len(lines(copied)) == 300)


async def test_what_a_best_effort_copy_is_behind_is_written_at_the_end(copied: Path, tmp_path: Path) -> None:
    async with ledger_with(json_lines(copied, required=False), tmp_path) as ledger:
        await ledger.write(*(record() for _ in range(300)))
    assert len(lines(copied)) == 300


def befall(fault: str, copied: Path) -> None:
    if fault == "deleted":
        copied.unlink()
    elif fault == "moved":
        copied.rename(copied.with_name("aside"))
    elif fault == "replaced":
        copied.rename(copied.with_name("aside"))
        copied.touch()
    else:
        os.truncate(copied, 0)


FAULTS = {
    "deleted": "was deleted or moved",
    "moved": "was deleted or moved",
    "replaced": "was replaced by another file",
    "truncated": "was truncated",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_befalls_a_required_copy_is_noticed_within_a_second_and_refuses(
    fault: str, copied: Path, tmp_path: Path
) -> None:
    changed = asyncio.Event()
    copy = json_lines(copied, required=True, on_change=changed.set)
    async with ledger_with(copy, tmp_path) as ledger:
        await ledger.write(record())
        befall(fault, copied)
        started = time.monotonic()
        await asyncio.wait_for(changed.wait(), 5)
        assert time.monotonic() - started < 1
        assert FAULTS[fault] in str(ledger.fault), "without any decision having been made"
        await refused(ledger)
        copy.reopen()
        await eventually_true(lambda: ledger.fault is None)
        await ledger.write(record())
    assert actions(copied) == ["token-granted"]
    assert len(rows(tmp_path / "ledger.sqlite3", "SELECT 1 FROM decision")) == 2, "what was refused was not recorded"


async def test_a_required_copy_that_is_put_back_is_written_again(copied: Path, tmp_path: Path) -> None:
    async with ledger_with(json_lines(copied, required=True), tmp_path) as ledger:
        await ledger.write(record())
        befall("moved", copied)
        await eventually_true(lambda: ledger.fault is not None)
        copied.with_name("aside").rename(copied)
        await eventually_true(lambda: ledger.fault is None)
        await ledger.write(record())
    assert actions(copied) == ["token-granted"] * 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_best_effort_copy_goes_on_in_a_new_file(fault: str, copied: Path, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with ledger_with(json_lines(copied, required=False), tmp_path) as ledger:
            await ledger.write(record())
            await eventually_true(lambda: copied.stat().st_size > 0)
            befall(fault, copied)
            await eventually_true(lambda: any(line["event"] == "copy_reopened" for line in logs))
            await ledger.write(record())
    assert actions(copied) == ["token-granted"]


def test_a_full_disk_refuses_until_there_is_room_and_the_gap_is_told(tmp_path: Path) -> None:
    """``RLIMIT_FSIZE`` in a process of its own stands for the full disk: a write comes back short, then fails."""
    program = tmp_path / "program.py"
    program.write_text(FULL_DISK, encoding="utf-8")
    ran = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    copied = tmp_path / "decisions.jsonl"
    torn, *whole = [line for line in copied.read_text(encoding="utf-8").splitlines() if line][-3:]
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)
    told, granted = map(json.loads, whole)
    assert told["event"]["action"] == "copy_missed_entries"
    assert json.loads(told["spiffe_issuer"]["detail"]) == {"entries": 1}
    assert granted["event"]["action"] == "token-granted"


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
import structlog
from issuer.ledger.errors import LedgerFault
from issuer.ledger.json_lines import JsonLines
from issuer.system import SystemClock
sys.path.insert(0, {tests!r})
from support.eventually import eventually_true
from support.ledgers import record

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = Path(sys.argv[1]) / "decisions.jsonl"
    copy = JsonLines(str(path), required=True, clock=SystemClock(), log=structlog.get_logger(), on_change=lambda: None)
    await copy.open()
    await copy.write([record()])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, unlimited[1]))
    try:
        await copy.write([record()])
    except LedgerFault as fault:
        assert "cannot be written" in str(fault), fault
    else:
        raise AssertionError("it was not refused")
    assert copy.fault
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    await eventually_true(lambda: copy.fault is None)
    await copy.write([record()])
    await copy.close()

asyncio.run(main())
""".replace("{tests!r}", repr(str(Path(__file__).parents[2])))


def test_a_copy_that_does_not_answer_hangs_nobody(tmp_path: Path) -> None:
    """Standard output is a pipe that nobody reads: the write never ends, but the wait does, and so does the program."""
    program = tmp_path / "program.py"
    program.write_text(FULL_PIPE, encoding="utf-8")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.wait(30) == 0, running.stderr.read() if running.stderr else ""


FULL_PIPE = """
import asyncio, sys
import structlog
from issuer.ledger.errors import LedgerFault
from issuer.ledger.json_lines import JsonLines
from issuer.system import SystemClock
sys.path.insert(0, {tests!r})
from support.ledgers import record

async def main():
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr))
    copy = JsonLines("-", required=True, clock=SystemClock(), log=log, on_change=lambda: None)
    await copy.open()
    try:
        await asyncio.wait_for(copy.write([record()] * 500), 0.5)
    except TimeoutError:
        assert copy.fault == "standard output: does not answer", copy.fault
    try:
        await copy.write([record()])
    except LedgerFault:
        await copy.close()
        return
    raise AssertionError("it was not refused")

asyncio.run(main())
""".replace("{tests!r}", repr(str(Path(__file__).parents[2])))


async def test_a_best_effort_copy_misses_what_it_cannot_hold(copied: Path) -> None:
    copy = json_lines(copied, required=False)
    await copy.write([record()] * (MAX_BEHIND + 5))
    assert copy.missed == 5
    await copy.open()
    await eventually_true(lambda: copy.missed == 0)
    await copy.close()
    assert json.loads(lines(copied)[0]["spiffe_issuer"]["detail"]) == {"entries": 5}


async def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerFault, match="cannot be opened: Is a directory"):
        await json_lines(tmp_path, required=False).open()


def test_standard_output_is_a_copy_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(STANDARD_OUTPUT, encoding="utf-8")
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ran.stdout)["event"]["action"] == "token-granted"


STANDARD_OUTPUT = """
import asyncio, sys
import structlog
from issuer.ledger.json_lines import JsonLines
from issuer.system import SystemClock
sys.path.insert(0, {tests!r})
from support.ledgers import record

async def main():
    copy = JsonLines("-", required=True, clock=SystemClock(), log=structlog.get_logger(), on_change=lambda: None)
    await copy.open()
    await copy.write([record()])
    await copy.close()

asyncio.run(main())
""".replace("{tests!r}", repr(str(Path(__file__).parents[2])))
