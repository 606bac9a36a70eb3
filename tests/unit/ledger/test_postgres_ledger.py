"""The ledger in a real PostgreSQL server of its own, and what can befall it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.eventually import eventually_true
from support.ledgers import group_commit, record, refused, revoking, works_again
from support.postgres import PostgresServer

from issuer.core.revocation import Selector
from issuer.ledger.errors import LedgerFault
from issuer.ledger.postgres_ledger import PostgresLedger
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ports import EpochMoved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from issuer.ledger.group_commit import GroupCommit


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest.fixture
def database(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[GroupCommit]:
    opened = group_commit(PostgresLedger(database), max_wait=timedelta(seconds=1))
    await opened.open()
    yield opened
    await opened.close()


def ask(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


def chains(database: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for writer, position in ask(
        database, "SELECT writer, position FROM decision UNION SELECT writer, position FROM event ORDER BY 1, 2"
    ):
        found.setdefault(int(str(writer)), []).append(int(str(position)))
    return found


async def test_several_issuers_write_at_once_each_its_own_chain(ledger: GroupCommit, database: str) -> None:
    other = group_commit(PostgresLedger(database))
    await other.open()
    texts = [f"spiffe://prod.example/{number}" for number in range(100)]
    writes = [each.write(record(caller=text)) for text in texts for each in (ledger, other)]
    await asyncio.gather(*writes)
    await other.close()
    assert chains(database) == {1: list(range(1, 102)), 2: list(range(1, 102))}
    assert len(ask(database, "SELECT 1 FROM text WHERE value LIKE 'spiffe://prod.example/%'")) == 100


async def test_only_the_chains_of_issuers_that_ended_are_closed(ledger: GroupCommit, database: str) -> None:
    for _ in range(2):
        other = group_commit(PostgresLedger(database))
        await other.open()
        await other.close()
    await ledger.write(record())
    assert ask(database, "SELECT closed_by IS NULL FROM writer ORDER BY id") == [(True,), (False,), (True,)]


async def test_a_connection_that_is_cut_is_made_again(ledger: GroupCommit, database: str) -> None:
    await ledger.write(record())
    ask(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spiffe-issuer'")
    await refused(ledger)
    await works_again(ledger)


async def test_a_server_that_is_restarted(server: PostgresServer, ledger: GroupCommit, database: str) -> None:
    await ledger.write(record())
    server.stop()
    await refused(ledger)
    assert await refused(ledger) < 1
    server.start()
    await works_again(ledger)
    assert all(chain == list(range(1, len(chain) + 1)) for chain in chains(database).values())


async def test_a_server_that_hangs_hangs_nobody(server: PostgresServer, ledger: GroupCommit, database: str) -> None:
    await ledger.write(record())
    [(backend,)] = ask(database, "SELECT pid FROM pg_stat_activity WHERE application_name = 'spiffe-issuer'")
    server.signal(int(str(backend)), signal.SIGSTOP)
    try:
        assert await refused(ledger) < 3
        await eventually_true(lambda: ledger.fault is not None)
        assert await refused(ledger) < 0.9, "refused at once while it hangs"
    finally:
        server.signal(int(str(backend)), signal.SIGCONT)
    await works_again(ledger)


async def test_a_server_that_hangs_when_asked_what_others_revoked_hangs_nobody(
    ledger: GroupCommit, database: str
) -> None:
    await ledger.write(record())
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE revocation IN ACCESS EXCLUSIVE MODE")
        await eventually_true(lambda: "has not answered" in str(ledger.fault))
        assert await refused(ledger) < 0.9, "refused at once while it hangs"
    await works_again(ledger)
    assert len(chains(database)) == 1, "the connection is the same"


async def test_a_fail_over_to_an_empty_database_is_refused(ledger: GroupCommit, database: str) -> None:
    await ledger.write(record())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    await refused(ledger)
    await eventually_true(lambda: "is empty" in str(ledger.fault))


async def test_a_clone_of_a_writer_does_not_continue_its_chain(ledger: GroupCommit, database: str) -> None:
    engine = ledger._engine
    assert isinstance(engine, PostgresLedger)
    await ledger.write(record())
    ask_nothing = engine._head
    await ledger.write(record())
    engine._head = ask_nothing  # as a virtual machine that was copied would go on
    await refused(ledger)
    await works_again(ledger)
    assert sorted(chains(database)) == [1, 2]


def test_a_password_is_in_no_message() -> None:
    assert "hunter2" not in PostgresLedger("postgresql://me:hunter2@db.example/x").name
    with pytest.raises(LedgerFault) as fault:
        PostgresLedger("postgresql://me:hunter2@db.example/x?nonsense=1")
    assert "hunter2" not in str(fault.value)


async def test_a_server_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    ledger = group_commit(PostgresLedger(f"host={tmp_path} user=me password=hunter2 dbname=x"))
    with pytest.raises(LedgerFault) as fault:
        await ledger.open()
    assert "hunter2" not in str(fault.value)


async def test_another_issuer_obeys_a_revocation_at_once_and_knows_it_soon(ledger: GroupCommit, database: str) -> None:
    theirs = LedgerRevocations()
    other = group_commit(PostgresLedger(database), revocations=theirs)
    await other.open()
    made = revoking(Selector(everything=True))
    await ledger.write(made)
    refused_ones = (other.write(record(), epoch=0) for _ in range(5))
    outcomes = await asyncio.gather(*refused_ones, other.write(record()), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EpochMoved] * 5 + [type(None)]
    assert theirs.get(made.id) is not None, "who was told to decide again knows why"
    await other.write(record(), epoch=theirs.epoch)
    token = revoking(Selector(token="t"), expires_at=2**40)
    await ledger.write(token)
    await eventually_true(lambda: theirs.is_token_revoked("t"), within=2)
    await other.close()


async def test_two_issuers_under_load_agree_on_what_was_before_a_revocation(database: str) -> None:
    books = [LedgerRevocations() for _ in range(2)]
    ledgers = [group_commit(PostgresLedger(database), revocations=book) for book in books]
    for each in ledgers:
        await each.open()
    written: list[str] = []
    revoked = asyncio.Event()

    async def keep_writing(number: int) -> None:
        while not revoked.is_set():
            with suppress(EpochMoved):
                made = record()
                epoch = books[number].epoch
                await ledgers[number].write(made, epoch=epoch)
                if epoch == 0:  # decided without it in view
                    written.append(made.token_id)

    writers = [asyncio.create_task(keep_writing(number % 2)) for number in range(16)]
    await eventually_true(lambda: len(written) > 200)
    made = revoking(Selector(everything=True), stops_issuance=False)
    await ledgers[0].write(made)
    await eventually_true(lambda: books[1].epoch == 1)
    revoked.set()
    await asyncio.gather(*writers)
    known = books[0].get(made.id)
    assert known is not None
    seqs = {token_id: int(str(seq)) for token_id, seq in ask(database, "SELECT token_id, seq FROM decision")}
    assert all(seqs[token_id] <= known.decisions for token_id in written)
    for each in ledgers:
        await each.close()
