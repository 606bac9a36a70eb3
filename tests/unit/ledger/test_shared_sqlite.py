"""One process that owns an SQLite ledger, and several workers that write to it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import pytest
from support.eventually import eventually_true
from support.ledgers import group_commit, record, revoking, rows, works_again

from issuer.core.approval_book import ApprovalBook
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.hash_chain import WriterHead
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Selector
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import LedgerReader
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.sqlite_connection import framed
from issuer.ledger.sqlite_ledger import SqliteLedger, start_process
from issuer.ledger.verification import verify_ledger
from issuer.ports import EpochMoved
from issuer.system import SystemClock

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

    from issuer.ledger.group_commit import GroupCommit

SETTLERS = Selector(workload=parse_pattern("spiffe://prod.example/ns/payments/sa/settler"))


class Shared:
    """The process, and where it is reached."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.sqlite3"
        self.at = folder / "ledger.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.at))
        self._listener.listen()

    def __enter__(self) -> Self:
        self.owner, theirs = socket.socketpair()
        with theirs:
            self.process: subprocess.Popen[bytes] = start_process(theirs, self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        self.owner.close()
        assert self.process.wait(10) in (0, -9)

    def close(self) -> None:
        self._listener.close()

    @asynccontextmanager
    async def worker(self, revocations: LedgerRevocations | None = None) -> AsyncIterator[GroupCommit]:
        engine = SqliteLedger(self.file, at=self.at)
        ledger = group_commit(engine, revocations=revocations or LedgerRevocations(), approvals=ApprovalBook())
        await ledger.open()
        try:
            yield ledger
        finally:
            await ledger.close()


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


async def test_workers_write_one_chain_and_each_knows_how_far_it_has_come(shared: Shared) -> None:
    with shared:
        async with shared.worker() as one, shared.worker() as other:
            for _ in range(20):
                await asyncio.gather(*(ledger.write(record()) for ledger in (one, other) for _ in range(8)))
            assert one.store == other.store
            (newest,) = rows(shared.file, "SELECT MAX(position) FROM decision")
            await eventually_true(lambda: {one.head.position, other.head.position} == {newest[0]})  # type: ignore[union-attr]
    assert rows(shared.file, "SELECT COUNT(*), COUNT(DISTINCT writer) FROM decision") == [(320, 1)]
    assert verify_ledger(LedgerReader.sqlite(shared.file)).faults == ()
    shared.close()


async def test_a_revocation_of_one_worker_stops_what_another_decided_before(shared: Shared) -> None:
    with shared:
        known = LedgerRevocations()
        async with shared.worker() as one, shared.worker(known) as other:
            before = known.epoch
            await other.write(record(), epoch=before)
            await one.write(revoking(SETTLERS))
            with pytest.raises(EpochMoved):
                await other.write(record(), epoch=before)
            assert known.epoch > before, "it has learned why"
            await other.write(record(), epoch=known.epoch)
    shared.close()


async def test_an_idle_worker_learns_of_a_revocation_within_a_second(shared: Shared) -> None:
    with shared:
        known = LedgerRevocations()
        async with shared.worker() as one, shared.worker(known):
            soon = int(SystemClock().now().timestamp()) + 60
            await one.write(revoking(Selector(token="abc"), expires_at=soon))
            await eventually_true(lambda: known.is_token_revoked("abc"), within=1)
    shared.close()


async def test_a_killed_process_costs_every_worker_a_pause(shared: Shared) -> None:
    with shared:
        async with shared.worker() as one, shared.worker() as other:
            await asyncio.gather(one.write(record()), other.write(record()))
            shared.process.kill()
            shared.process.wait()
            for ledger in (one, other):
                with pytest.raises(TemporarilyUnavailable):
                    await ledger.write(record())
            shared.owner.close()
            with shared:
                await asyncio.gather(works_again(one), works_again(other))
                assert one.head is not None
                assert other.head is not None
                assert one.head.writer == other.head.writer, "they joined one new chain"
                assert verify_ledger(LedgerReader.sqlite(shared.file)).faults == ()
    shared.close()


async def test_a_fault_of_one_commit_is_everybodys_until_each_has_opened_again(shared: Shared) -> None:
    with shared:
        async with shared.worker() as one, shared.worker() as other:
            shared.file.rename(shared.file.with_suffix(".moved"))
            with pytest.raises(TemporarilyUnavailable):
                await one.write(record())
            with pytest.raises(TemporarilyUnavailable):
                await other.write(record())
            shared.file.with_suffix(".moved").rename(shared.file)
            await asyncio.gather(works_again(one), works_again(other))
    assert verify_ledger(LedgerReader.sqlite(shared.file)).faults == ()
    shared.close()


async def test_a_worker_that_knows_of_a_later_entry_refuses_an_older_ledger_that_another_opened(shared: Shared) -> None:
    with shared:
        async with shared.worker():
            engine = SqliteLedger(shared.file, at=shared.at)
            late = group_commit(engine)
            with pytest.raises(LedgerFault, match="is an older state"):
                await late.open(last=WriterHead("01a21928-ef11-7914-bd11-1b74366c22ce", 7, b"\0" * 32))
            with pytest.raises(LedgerFault, match="is another ledger"):
                await late.open(pinned="01a21928-ef11-7914-bd11-1b74366c22ce")
    shared.close()


async def test_half_a_command_and_one_who_never_reads_hold_up_nobody(shared: Shared) -> None:
    with shared:
        async with shared.worker() as ledger:
            await ledger.write(record())
            half, deaf = (socket.socket(socket.AF_UNIX) for _ in range(2))
            with half, deaf:
                half.connect(str(shared.at))
                half.sendall(framed([1, 1, [b"", None]])[:7])
                deaf.connect(str(shared.at))
                deaf.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    deaf.sendall(framed([1, 2, [0, 0, 1]]) * 500_000)
                await asyncio.gather(*(ledger.write(record()) for _ in range(50)))
    shared.close()


async def test_the_socket_is_for_this_user_alone(shared: Shared) -> None:
    with shared:
        async with shared.worker() as ledger:
            await ledger.write(record())
        assert os.geteuid() == shared.at.stat().st_uid
    shared.close()
