"""A ledger that was tampered with by whoever may write to its database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support.ledgers import record, rows, sqlite_ledger

from issuer.core.ledger_entries import Event
from issuer.core.record import Outcome
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """Two chains: the first of six entries, the second of three."""
    path = tmp_path / "ledger.sqlite3"
    async with sqlite_ledger(path) as ledger:
        for number in range(4):
            await ledger.write(record(token_id=f"t{number}", intent='{"ticket":"CHG-1"}'))
        await ledger.write(Event("x", 1, "", "{}"))
    async with sqlite_ledger(path) as ledger:
        await ledger.write(record(outcome=Outcome.DENIED, reason="SCOPE_NOT_ALLOWED", token_id=""), record())
    return path


def tamper(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


def fault_of(file: Path) -> tuple[int, str, str]:
    (fault,) = verify_ledger(LedgerReader.sqlite(file)).faults
    return fault.position, fault.name.partition(" ")[0], fault.problem


def test_an_untouched_ledger_holds(file: Path) -> None:
    found = verify_ledger(LedgerReader.sqlite(file))
    assert (found.chains, found.entries, found.faults) == (2, 9, ())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decision SET outcome = 2 WHERE writer = 1 AND position = 3",
        "UPDATE decision SET expires_at = expires_at + 1 WHERE writer = 1 AND position = 3",
        "UPDATE decision SET token_sha256 = x'00' WHERE writer = 1 AND position = 3",
        "UPDATE decision SET peer = NULL WHERE writer = 1 AND position = 3",
        "UPDATE decision SET audience = caller WHERE writer = 1 AND position = 3",
    ],
)
def test_an_edited_row_is_named(file: Path, statement: str) -> None:
    tamper(file, statement)
    [(decision_id,)] = rows(file, "SELECT decision_id FROM decision WHERE writer = 1 AND position = 3")
    (fault,) = verify_ledger(LedgerReader.sqlite(file)).faults
    assert (fault.position, fault.name) == (3, f"decision {UUID(bytes=decision_id)}")
    assert fault.problem == "was changed, or stands in the place of another"


def test_an_edited_text_shows_in_the_first_row_that_uses_it(file: Path) -> None:
    tamper(file, "UPDATE text SET value = 'spiffe://evil.example/x' WHERE value LIKE 'spiffe://%'")
    found = verify_ledger(LedgerReader.sqlite(file))
    assert [fault.position for fault in found.faults] == [2, 2]


def test_a_removed_row_is_named(file: Path) -> None:
    tamper(file, "DELETE FROM decision WHERE writer = 1 AND position = 3")
    assert fault_of(file) == (3, "decision", "is entry 4; the entries before it, from 3, were removed")


def test_two_rows_that_changed_places_are_seen(file: Path) -> None:
    tamper(
        file,
        "UPDATE decision SET position = 99 WHERE writer = 1 AND position = 3",
        "UPDATE decision SET position = 3 WHERE writer = 1 AND position = 4",
        "UPDATE decision SET position = 4 WHERE writer = 1 AND position = 99",
    )
    assert fault_of(file)[0] == 3


def test_a_chain_cut_short_is_seen_by_the_one_after_it(file: Path) -> None:
    tamper(file, "DELETE FROM event WHERE writer = 1 AND position = 6")
    position, _, problem = fault_of(file)
    assert position == 6
    assert problem.startswith("the chain ends at 5, and the start of chain ")


def test_a_chain_that_was_removed_whole_is_seen_by_the_one_after_it(file: Path) -> None:
    rows_of_it = "DELETE FROM decision WHERE writer = 1", "DELETE FROM event WHERE writer = 1"
    tamper(file, *rows_of_it, "DELETE FROM writer WHERE id = 1")
    position, _, problem = fault_of(file)
    assert position == 1
    assert problem.startswith("the whole chain was removed, and the start of chain ")


def test_the_end_of_the_last_chain_is_not_seen_without_anybody_who_holds_its_head(file: Path) -> None:
    """What the chain alone cannot show: THREAT_MODEL.md says so."""
    tamper(file, "DELETE FROM decision WHERE writer = 2 AND position = 3")
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()


def test_a_changed_event_is_named(file: Path) -> None:
    tamper(file, "UPDATE event SET actor = 'x' WHERE writer = 1 AND position = 6")
    assert fault_of(file)[:2] == (6, "event")


def test_an_erased_person_does_not_break_the_chain(file: Path) -> None:
    tamper(file, "UPDATE personal SET value = NULL")
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()
    assert {stored.record.peer for stored in LedgerReader.sqlite(file).newest(DecisionsWanted(), 10)} == {""}


def test_the_newest_come_first_and_can_be_filtered(file: Path) -> None:
    reader = LedgerReader.sqlite(file)
    assert [stored.record.token_id for stored in reader.newest(DecisionsWanted(), 6)][2:] == ["t3", "t2", "t1", "t0"]
    (denied,) = reader.newest(DecisionsWanted(outcome=Outcome.DENIED), 10)
    assert denied.record.reason == "SCOPE_NOT_ALLOWED"
    assert reader.newest(DecisionsWanted(reason="SCOPE_NOT_ALLOWED"), 10) == [denied]
    assert len(reader.newest(DecisionsWanted(caller=denied.record.caller, application="ledger"), 10)) == 6
    assert reader.newest(DecisionsWanted(audience="https://nobody.example"), 10) == []
    assert reader.newest(DecisionsWanted(since=denied.record.time + 10**9), 10) == []


def test_a_decision_is_found_by_its_id_or_its_token(file: Path) -> None:
    reader = LedgerReader.sqlite(file)
    (stored,) = reader.find("t1")
    assert stored.record.intent == '{"ticket":"CHG-1"}'
    assert reader.find(str(UUID(bytes=stored.record.decision_id))) == [stored]
    assert reader.find("t9") == []


def test_what_is_no_ledger_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerFault, match="unable to open"):
        verify_ledger(LedgerReader.sqlite(tmp_path / "none"))
    tamper(tmp_path / "other", "CREATE TABLE x (y)")
    with pytest.raises(LedgerFault, match="there is no ledger here"):
        LedgerReader.sqlite(tmp_path / "other").newest(DecisionsWanted(), 1)
