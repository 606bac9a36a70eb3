"""Signed checkpoints of a real ledger, and what an attacker who may write to its database can no longer hide."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from structlog.testing import capture_logs
from support.eventually import eventually_true
from support.ledgers import group_commit, record, rows, sqlite_ledger

from issuer.core.checkpoint import ledger_keys
from issuer.ledger.checkpoints import CheckpointFile, Checkpoints
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ledger.verification import Verification, verify_ledger
from issuer.signing.es256 import Es256Signer
from issuer.system import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.ledger.group_commit import GroupCommit

SIGNER = Es256Signer(generate_private_key(SECP256R1()))
KEYS = ledger_keys(SIGNER.public_keys().jwks.decode())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def kept(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "elsewhere" / "checkpoints.jws")


def checkpoints_of(ledger: GroupCommit, kept: CheckpointFile | None, signer: Es256Signer = SIGNER) -> Checkpoints:
    return Checkpoints(
        ledger,
        signer,
        issuer="https://issuer.example",
        file=kept,
        clock=SystemClock(),
        log=structlog.get_logger(),
    )


async def written(file: Path, kept: CheckpointFile, decisions: int = 3) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(*(record() for _ in range(decisions)))
        await checkpoints_of(ledger, kept).make()


def verified(file: Path, kept: CheckpointFile) -> Verification:
    return verify_ledger(LedgerReader.sqlite(file), KEYS, kept.statements())


def tamper(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


async def test_a_checkpoint_vouches_for_all_entries_before_it(file: Path, kept: CheckpointFile) -> None:
    await written(file, kept)
    found = verified(file, kept)
    assert (found.entries, found.signed, found.faults) == (4, 4, ())


async def test_entries_after_the_last_checkpoint_are_not_vouched_for(file: Path, kept: CheckpointFile) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(record())
        await checkpoints_of(ledger, kept).make()
        await ledger.write(record())
    found = verified(file, kept)
    assert (found.entries, found.signed) == (3, 2)


async def test_a_chain_that_was_cut_off_at_its_end_is_told(file: Path, kept: CheckpointFile) -> None:
    await written(file, kept)
    tamper(file, "DELETE FROM decision WHERE position = 4", "DELETE FROM checkpoint")
    (fault,) = verified(file, kept).faults
    assert "the chain ends at 3" in fault.problem
    assert "a checkpoint signed at" in fault.problem
    assert not verify_ledger(LedgerReader.sqlite(file)).faults, "the chain alone cannot tell"


async def test_a_whole_chain_that_was_removed_is_told(file: Path, kept: CheckpointFile) -> None:
    await written(file, kept)
    tamper(file, *(f"DELETE FROM {table}" for table in ("decision", "event", "writer", "checkpoint")))  # noqa: S608
    (fault,) = verified(file, kept).faults
    assert "the whole chain was removed" in fault.problem


async def test_a_chain_that_was_written_anew_is_told(file: Path, tmp_path: Path, kept: CheckpointFile) -> None:
    """With every hash computed again, as an attacker would who knows how: only the signed head does not fit."""
    await written(file, kept)
    forged = tmp_path / "forged.sqlite3"
    async with sqlite_ledger(forged) as ledger:
        await ledger.write(*(record(caller="spiffe://prod.example/mallory") for _ in range(3)))
    ((writer,),) = rows(file, "SELECT uuid FROM writer")
    ((store,),) = rows(file, "SELECT value FROM meta WHERE name = 'store'")
    tamper(forged, f"UPDATE writer SET uuid = '{writer}'", f"UPDATE meta SET value = '{store}' WHERE name = 'store'")  # noqa: S608
    (fault,) = verified(forged, kept).faults
    assert fault.position == 4
    assert "is not the entry that a checkpoint signed at" in fault.problem


async def test_a_forged_checkpoint_is_told_and_vouches_for_nothing(file: Path, kept: CheckpointFile) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(record())
        await checkpoints_of(ledger, kept, Es256Signer(generate_private_key(SECP256R1()))).make()
    found = verified(file, kept)
    assert found.signed == 0
    assert "is signed by a key that is not known" in found.faults[0].problem


async def test_a_checkpoint_of_another_ledger_is_told(file: Path, tmp_path: Path, kept: CheckpointFile) -> None:
    await written(tmp_path / "other.sqlite3", kept)
    async with sqlite_ledger(file):
        pass
    (fault,) = verified(file, kept).faults
    assert "is of the ledger" in fault.problem


async def test_noise_in_the_file_is_told(file: Path, kept: CheckpointFile) -> None:
    await written(file, kept)
    kept.append("noise")
    (fault,) = verified(file, kept).faults
    assert (fault.name, fault.problem) == ("a checkpoint", "is not a checkpoint")


async def test_nothing_is_signed_twice(file: Path, kept: CheckpointFile) -> None:
    async with sqlite_ledger(file) as ledger:
        checkpoints = checkpoints_of(ledger, kept)
        await checkpoints.make()
        await checkpoints.make()
    assert len(list(kept.statements())) == 1
    assert len(rows(file, "SELECT 1 FROM checkpoint")) == 1


async def test_one_is_made_at_each_interval_until_told_to_stop(file: Path, kept: CheckpointFile) -> None:
    async with sqlite_ledger(file) as ledger:
        stop = asyncio.Event()
        running = asyncio.create_task(checkpoints_of(ledger, kept).run(0.01, stop))
        for number in (1, 2):
            await eventually_true(lambda: len(rows(file, "SELECT 1 FROM checkpoint")) == number)  # noqa: B023
            await ledger.write(record())
        stop.set()
        await running


async def test_a_file_that_cannot_be_written_is_loud_and_costs_nothing_else(file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    async with sqlite_ledger(file) as ledger:
        with capture_logs() as logs:
            await checkpoints_of(ledger, CheckpointFile(tmp_path / "folder")).make()
        await ledger.write(record())
    assert [line["event"] for line in logs] == ["checkpoint_failed"]
    assert str(tmp_path / "folder") in logs[0]["error"]


def test_a_line_that_was_torn_off_is_not_the_last(kept: CheckpointFile) -> None:
    assert kept.last() is None
    kept.append("one")
    with kept.path.open("a") as file:
        file.write("two, torn")
    assert kept.last() == "one"
    kept.append("three")
    assert kept.last() == "three"
    assert list(kept.statements()) == ["one", "two, torn", "three"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for read in (CheckpointFile(tmp_path).last, lambda: list(CheckpointFile(tmp_path / "none").statements())):
        with pytest.raises(LedgerFault):
            read()


async def test_the_ledger_must_hold_what_was_durable(file: Path) -> None:
    async with sqlite_ledger(file) as ledger:
        await ledger.write(record())
        store, head = ledger.store, ledger.head
    assert head is not None
    again = group_commit(SqliteLedger(file))
    await again.open(store, head)
    await again.close()
    with pytest.raises(LedgerFault, match="is an older state of the ledger"):
        await group_commit(SqliteLedger(file)).open(store, head._replace(hash=b"\0" * 32))
    with pytest.raises(LedgerFault, match="is an older state of the ledger"):
        await group_commit(SqliteLedger(file)).open(store, head._replace(writer="never"))
