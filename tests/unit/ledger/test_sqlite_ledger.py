"""The ledger on a real SQLite file, with the process that owns it, and what can befall both."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support.eventually import eventually_true
from support.ledgers import group_commit, record, refused, rows, sqlite_ledger, works_again

from issuer.core.errors import TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ledger.verification import verify_ledger
from issuer.ports import DecisionsWanted
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.ledger.group_commit import GroupCommit

FAST = timedelta(milliseconds=500)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def process_of(ledger: GroupCommit) -> int:
    engine = ledger._engine
    assert isinstance(engine, SqliteLedger)
    assert engine._process is not None
    process = engine._process._process
    assert process is not None
    return process.pid


def positions(file: Path) -> dict[int, list[int]]:
    """Return the positions of the entries of each chain."""
    chains: dict[int, list[int]] = {}
    for writer, position in rows(
        file, "SELECT writer, position FROM decision UNION SELECT writer, position FROM event ORDER BY 1, 2"
    ):
        chains.setdefault(writer, []).append(position)
    return chains


async def test_the_file_is_for_its_owner_alone(file: Path) -> None:
    async with sqlite_ledger(file):
        assert file.stat().st_mode & 0o777 == 0o600


async def test_a_killed_process_costs_its_batch_and_is_replaced(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(record())
        os.kill(process_of(ledger), signal.SIGKILL)
        await refused(ledger)
        await works_again(ledger)
    assert all(chain == list(range(1, len(chain) + 1)) for chain in positions(file).values())


async def test_a_process_that_hangs_hangs_nobody_else(file: Path) -> None:
    ledger = group_commit(SqliteLedger(file), max_wait=FAST)
    await ledger.open()
    os.kill(process_of(ledger), signal.SIGSTOP)
    try:
        assert await refused(ledger) < 2
        await eventually_true(lambda: ledger.fault is not None)
        assert await refused(ledger) < 0.5, "refused at once while it hangs"
    finally:
        os.kill(process_of(ledger), signal.SIGCONT)
    await works_again(ledger)
    await ledger.close()
    assert len(rows(file, "SELECT 1 FROM decision")) == 2, "the queued one was written, the refused-at-once one was not"


async def test_a_caller_with_less_time_waits_less(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        os.kill(process_of(ledger), signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(TemporarilyUnavailable):
            await ledger.write(record(), within=0.1)
        assert time.monotonic() - started < 2
        os.kill(process_of(ledger), signal.SIGCONT)


def move_ledger(here: Path, there: Path) -> None:
    """Move a ledger with its write-ahead log."""
    there.mkdir(exist_ok=True)
    for part in here.glob("ledger.sqlite3*"):
        part.rename(there / part.name)


@pytest.mark.parametrize("fault", ["deleted", "moved", "replaced", "read-only"])
async def test_a_file_that_is_not_the_one_in_use_is_refused_until_it_is_back(file: Path, fault: str) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(record())
        aside = file.parent / "aside"
        aside.mkdir()
        if fault == "read-only":
            file.chmod(0o400)
        else:
            move_ledger(file.parent, aside)
        if fault == "replaced":
            async with sqlite_ledger(file):
                pass
        await refused(ledger)
        assert not (fault in {"deleted", "moved"} and file.exists()), "no new ledger is begun under a running issuer"
        if fault == "read-only":
            file.chmod(0o600)
        else:
            for leftover in file.parent.glob("ledger.sqlite3*"):
                leftover.unlink()
            move_ledger(aside, file.parent)
        await works_again(ledger)


async def test_a_ledger_without_its_last_entries_is_refused(file: Path) -> None:
    """Its file alone put back, without the write-ahead log: what was durable is not there."""
    async with sqlite_ledger(file) as ledger:
        older = file.with_name("older")
        with closing(sqlite3.connect(file)) as before, closing(sqlite3.connect(older)) as copy:
            before.backup(copy)
        await ledger.write(record())
        move_ledger(file.parent, file.parent / "aside")
        older.rename(file)
        await refused(ledger)
        await eventually_true(lambda: "is an older state of the ledger" in str(ledger.fault))


async def test_an_empty_database_in_its_place_is_another_ledger(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        file.rename(file.with_name("aside"))
        with closing(sqlite3.connect(file)) as empty:
            empty.execute("CREATE TABLE x (y)")
        await refused(ledger)
        await eventually_true(lambda: "is empty" in str(ledger.fault))


async def test_a_lock_that_is_held_delays_and_then_refuses(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await refused(ledger) < 4
            other.execute("ROLLBACK")
        await works_again(ledger)


async def test_a_clock_that_jumps_back_costs_nothing(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        for hours_ago in (0, 1, 0):
            at = SystemClock().now() - timedelta(hours=hours_ago)
            await ledger.write(record(decision_id=UUID(RandomIds().fresh_id(at)).bytes, time=microseconds(at)))
    reader = LedgerReader.sqlite(file)
    assert verify_ledger(reader).faults == ()
    assert [stored.position for stored in reader.newest(DecisionsWanted(), 5)] == [4, 3, 2], "as they were written"


async def test_two_issuers_do_not_write_to_one_file(file: Path) -> None:
    async with sqlite_ledger(file):
        with pytest.raises(LedgerFault, match="another process writes to this ledger"):
            await group_commit(SqliteLedger(file)).open()


async def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(LedgerFault, match="not a database"):
        await group_commit(SqliteLedger(file)).open()


async def test_more_than_may_wait_are_refused_at_once(file: Path) -> None:
    ledger = group_commit(SqliteLedger(file), max_waiting=10)
    await ledger.open()
    outcomes = await asyncio.gather(*(ledger.write(record()) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(outcome, TemporarilyUnavailable) for outcome in outcomes) == 40
    await ledger.close()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """On a file system of its own; mounting one needs root, as CI is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    assert await mount.wait() == 0, "run as root: this test mounts a small tmpfs"
    try:
        ledger = group_commit(SqliteLedger(disk / "ledger.sqlite3"))
        await ledger.open()
        (disk / "filler").write_bytes(b"x" * (disk_free(disk) - 20_000))
        with pytest.raises(TemporarilyUnavailable):
            await write_many(ledger)
        (disk / "filler").unlink()
        await works_again(ledger)
        await ledger.close()
        chains = positions(disk / "ledger.sqlite3")
        assert all(chain == list(range(1, len(chain) + 1)) for chain in chains.values())
    finally:
        unmount = await asyncio.create_subprocess_exec("umount", str(disk))
        await unmount.wait()


async def write_many(ledger: GroupCommit) -> None:
    for _ in range(200):
        await ledger.write(record())


def disk_free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
