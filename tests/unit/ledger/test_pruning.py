"""Old entries that are taken out of a ledger, in both engines, and what then can still be proved."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from support.ledgers import group_commit, record
from support.postgres import PostgresServer

from issuer.core.instants import microseconds
from issuer.core.ledger_entries import ENTRIES_PRUNED, Event, PrunedTo, Sweep, detail
from issuer.ledger.postgres_ledger import PostgresLedger
from issuer.ledger.pruning import prunable, prune
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ledger.verification import verify_ledger
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from issuer.core.record import DecisionRecord
    from issuer.ledger.engine import Engine
    from issuer.ledger.group_commit import GroupCommit

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HORIZON = NOW - timedelta(days=90)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as started:
        yield started


class Stopped:
    """A clock that shows one time."""

    def __init__(self, time: datetime) -> None:
        self._time = time

    def now(self) -> datetime:
        return self._time


class Place:
    """A ledger in one engine or the other."""

    def __init__(self, engine: Callable[[], Engine], reader: LedgerReader) -> None:
        self.engine = engine
        self.reader = reader

    @asynccontextmanager
    async def ledger(self, days_ago: int = 0) -> AsyncIterator[GroupCommit]:
        """Open it so many days before NOW."""
        ledger = group_commit(self.engine(), clock=Stopped(NOW - timedelta(days=days_ago)))
        await ledger.open()
        try:
            yield ledger
        finally:
            await ledger.close()

    async def prune(self, before: datetime = HORIZON) -> int:
        async with self.ledger() as ledger:
            return await prune(ledger, self.reader, before=before, now=NOW, actor="")

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with self.reader.connected() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def peers(self) -> list[str]:
        return sorted(found.record.peer for found in self.reader.newest(DecisionsWanted(), 100))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite3"
        return Place(lambda: SqliteLedger(path), LedgerReader.sqlite(path))
    database = request.getfixturevalue("server").new_database()
    return Place(lambda: PostgresLedger(database), LedgerReader.postgres(database))


def made(days_ago: int, **changes: str) -> DecisionRecord:
    return record(time=microseconds(NOW - timedelta(days=days_ago)), peer=f"{days_ago} days ago", **changes)


async def two_chains(place: Place) -> None:
    async with place.ledger(days_ago=200) as ledger:
        await ledger.write(made(200), made(100), made(91))
    async with place.ledger(days_ago=120) as ledger:
        await ledger.write(made(120), made(80), made(95), made(1))


async def test_what_is_older_goes_and_nothing_out_of_the_middle(place: Place) -> None:
    await two_chains(place)
    assert await place.prune() == 4 + 2, "each with the entry that began its chain"
    assert place.peers() == ["1 days ago", "80 days ago", "95 days ago"]


async def test_what_stays_is_proved_and_the_pruning_is_told(place: Place) -> None:
    await two_chains(place)
    await place.prune()
    found = verify_ledger(place.reader)
    assert (found.entries, found.faults) == (5, ()), "three decisions, the start of the last chain, and the pruning"


async def test_chains_of_which_nothing_is_left_are_forgotten(place: Place) -> None:
    await two_chains(place)
    assert await place.prune(NOW) == 4 + 5
    async with place.ledger() as ledger:
        await ledger.write(made(0))
    assert verify_ledger(place.reader).faults == ()
    assert place.ask("SELECT count(*) FROM writer") == [(3,)], "the second is named by the third, which is still there"
    assert place.peers() == ["0 days ago"]


async def test_texts_that_point_to_people_are_erased_with_the_last_entry(place: Place) -> None:
    await two_chains(place)
    await place.prune()
    kept = {value for (value,) in place.ask("SELECT value FROM personal WHERE value IS NOT NULL")}
    assert kept == {"80 days ago", "95 days ago", "1 days ago"}


async def test_a_second_pruning_has_nothing_to_do(place: Place) -> None:
    await two_chains(place)
    await place.prune()
    heads, more = prunable(place.reader, microseconds(HORIZON))
    assert (more, len(heads)) == (0, 1), "of what was pruned before, what is not forgotten is told again"
    assert await place.prune() == 0
    assert place.ask("SELECT count(*) FROM event WHERE kind = 'entries_pruned'") == [(1,)]


async def test_many_entries_go_in_several_commits(place: Place) -> None:
    async with place.ledger(days_ago=200) as ledger:
        await ledger.write(*(made(100) for _ in range(2_500)))
    assert await place.prune() == 2_501
    assert place.ask("SELECT count(*) FROM decision") == [(0,)]
    assert verify_ledger(place.reader).faults == ()


async def test_a_pruning_that_was_cut_short_is_carried_on(place: Place) -> None:
    await two_chains(place)
    async with place.ledger() as ledger:
        heads, _ = prunable(place.reader, microseconds(HORIZON))
        told = [(head.writer, head.position, head.hash.hex()) for head in heads]
        said = Event(ENTRIES_PRUNED, 1, "", detail({"before": microseconds(HORIZON), "heads": told}))
        await ledger.write(said, *(PrunedTo(*head) for head in heads))
    assert verify_ledger(place.reader).faults == (), "what is still there and was pruned does not count"
    assert await place.prune() == 0
    assert place.peers() == ["1 days ago", "80 days ago", "95 days ago"]


async def test_a_removal_that_no_entry_tells_of_is_tampering(place: Place) -> None:
    await two_chains(place)
    async with place.ledger() as ledger:
        (head,) = (head for head in prunable(place.reader, microseconds(HORIZON))[0][:1])
        await ledger.write(PrunedTo(*head), Sweep(10))
    (fault,) = verify_ledger(place.reader).faults
    assert "no entry entries_pruned says so" in fault.problem
