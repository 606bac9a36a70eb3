"""What every store of the ledger does, held by one suite for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update
from support.ledgers import Observed, group_commit, record

from issuer.core.hash_chain import WriterHead
from issuer.core.ledger_entries import WRITER_STARTED, Checkpoint, Event, KeptPolicy
from issuer.ledger.errors import LedgerFault
from issuer.ledger.schema import VERSION, meta
from issuer.ledger.verification import verify_ledger
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from support.stores import Store


async def test_every_kind_of_entry_is_there_when_write_returns(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    await ledger.write(
        record(token_id="abc"), Event("x", 1, "who", "{}"), KeptPolicy("sha256:1", b"f"), Checkpoint("j")
    )
    assert store.ask("SELECT token_id FROM decision") == [("abc",)]
    assert store.ask("SELECT kind, actor FROM event ORDER BY position") == [(WRITER_STARTED, ""), ("x", "who")]
    assert store.reader.kept_policy("sha256:1") == b"f"
    assert store.ask("SELECT statement FROM checkpoint") == [("j",)]
    await ledger.close()


async def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    full = record(intent='{"ticket":"CHG-1"}', ttl_asked=90_000_000, missing="facts.a", audit="[]", facts="[]", flags=7)
    await ledger.write(full, full._replace(decision_id=bytes(16), token_id="", expires_at=None, token_sha256=b""))
    await ledger.close()
    assert [stored.record for stored in store.reader.after(DecisionsWanted(), 0, 10)] == [
        full,
        full._replace(decision_id=bytes(16), token_id="", expires_at=None, token_sha256=b""),
    ]


async def test_all_who_wait_share_commits_and_keep_their_order(store: Store) -> None:
    observed = Observed()
    ledger = group_commit(store.engine(), observer=observed)
    await ledger.open()
    records = [record() for _ in range(500)]
    await asyncio.gather(*(ledger.write(each) for each in records))
    await ledger.close()
    assert sum(observed.batches) == 500
    assert len(observed.batches) < 50
    assert [stored.record for stored in store.reader.after(DecisionsWanted(), 0, 1_000)] == records


async def test_each_start_has_a_chain_that_begins_with_the_heads_before_it(store: Store) -> None:
    heads = []
    for _ in range(3):
        ledger = group_commit(store.engine())
        await ledger.open()
        await ledger.write(record())
        heads.append(ledger.head)
        await ledger.close()
    details = [json.loads(str(detail)) for (detail,) in store.ask("SELECT detail FROM event ORDER BY seq")]
    named = [
        [WriterHead(uuid, position, bytes.fromhex(digest)) for uuid, position, digest in each["heads"]]
        for each in details
    ]
    assert named == [[], [heads[0]], [heads[1]]]
    found = verify_ledger(store.reader)
    assert (found.chains, found.entries, found.faults) == (3, 6, ())


async def test_only_the_ledger_in_use_and_no_older_state_of_it_is_opened(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    await ledger.write(record())
    name, head = ledger.store, ledger.head
    await ledger.close()
    assert head is not None
    again = group_commit(store.engine())
    await again.open(name, head)
    await again.close()
    for pinned, last, fault in (
        ("another", head, "is another ledger"),
        (name, head._replace(position=9), "is an older state"),
        (name, head._replace(hash=bytes(32)), "is an older state"),
        (name, head._replace(writer="x"), "is an older state"),
    ):
        with pytest.raises(LedgerFault, match=fault):
            await group_commit(store.engine()).open(pinned, last)


async def test_tables_of_a_newer_program_are_refused_with_what_to_do(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    await ledger.close()
    assert store.migrate() == (VERSION, VERSION)
    with store.writing().begin() as connection:
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(VERSION + 1)))
    for use in (store.migrate, store.reader.last_seq):
        with pytest.raises(LedgerFault, match=f"of version {VERSION + 1}, and this program"):
            use()
    with pytest.raises(LedgerFault, match="run the newer program"):
        await group_commit(store.engine()).open()


async def test_what_a_caller_that_gave_up_had_queued_is_written(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    waiting = [asyncio.create_task(ledger.write(record())) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await ledger.close()
    assert len(store.reader.after(DecisionsWanted(), 0, 100)) == 20
