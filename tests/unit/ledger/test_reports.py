"""Reports over a ledger of either engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.ledgers import group_commit, record
from support.postgres import PostgresServer

from issuer.core.instants import microseconds
from issuer.core.record import Flag, Outcome
from issuer.core.reports import Top
from issuer.ledger import reports
from issuer.ledger.errors import LedgerFault
from issuer.ledger.postgres_ledger import PostgresLedger
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer.core.record import DecisionRecord
    from issuer.ledger.engine import Engine

A, B = "spiffe://prod.example/ns/a/sa/one", "spiffe://prod.example/ns/b/sa/two"
MAIL = "https://mail.prod.example"
NOW = datetime.now(UTC)
SINCE, UNTIL = microseconds(NOW - timedelta(hours=1)), microseconds(NOW + timedelta(hours=1))
EXPIRES = int(NOW.timestamp()) + 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
async def reader(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerReader:
    """Nine decisions: five grants to A, one of them by an exception, one to B, and three refusals."""
    engine: Engine
    if request.param == "sqlite":
        engine, found = SqliteLedger(tmp_path / "l"), LedgerReader.sqlite(tmp_path / "l")
    else:
        database = request.getfixturevalue("server").new_database()
        engine, found = PostgresLedger(database), LedgerReader.postgres(database)
    ledger = group_commit(engine)
    await ledger.open()
    await ledger.write(
        *(record(caller=A, rules="one", peer="ipv4:10.0.0.1:40", expires_at=EXPIRES) for _ in range(3)),
        record(caller=A, rules="one two", scopes="a b", scopes_asked="a b", application_asked="hr", expires_at=EXPIRES),
        record(caller=A, rules="old", flags=int(Flag.LEGACY), expires_at=EXPIRES + 60, peer="ipv6:%5B::1%5D:9"),
        record(caller=B, audience=MAIL, expires_at=1, policy="sha256:other", svid=f"{'bb' * 32} 2f 5"),
        *(refusal(A, "SCOPE_NOT_ALLOWED", scopes_asked="write") for _ in range(2)),
        refusal(B, "FACT_MISSING", audience=MAIL),
    )
    await ledger.close()
    return found


def refusal(caller: str, reason: str, **changes: Any) -> DecisionRecord:
    gone: dict[str, Any] = {"token_id": "", "expires_at": None, "token_sha256": b"", "lifetime": None, "scopes": ""}
    return record(caller=caller, outcome=Outcome.DENIED, reason=reason, **gone, **changes)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (DecisionsWanted(), 9),
        (DecisionsWanted(caller=A), 7),
        (DecisionsWanted(caller="spiffe://prod.example/ns/*/sa/two"), 2),
        (DecisionsWanted(caller="spiffe://prod.example/**"), 9),
        (DecisionsWanted(caller="spiffe://other.example/**"), 0),
        (DecisionsWanted(caller="spiffe://prod.example/ns/a/sa/none"), 0),
        (DecisionsWanted(audience=MAIL), 2),
        (DecisionsWanted(application="hr"), 1),
        (DecisionsWanted(scope="a"), 1),
        (DecisionsWanted(scope="%"), 0),
        (DecisionsWanted(grant_type="client_credentials"), 9),
        (DecisionsWanted(outcome=Outcome.DENIED), 3),
        (DecisionsWanted(reason="FACT_MISSING"), 1),
        (DecisionsWanted(rule="two"), 1),
        (DecisionsWanted(rule="tw"), 0),
        (DecisionsWanted(policy="sha256:other"), 1),
        (DecisionsWanted(policy="sha256:none"), 0),
        (DecisionsWanted(certificate="2f"), 1),
        (DecisionsWanted(certificate="bb" * 32), 1),
        (DecisionsWanted(peer="10.0.0.1"), 3),
        (DecisionsWanted(peer="ipv6:%5B::1%5D:9"), 1),
        (DecisionsWanted(flags=Flag.LEGACY), 1),
        (DecisionsWanted(flags=Flag.LEGACY | Flag.BOUND), 0),
        (DecisionsWanted(since=SINCE), 9),
        (DecisionsWanted(since=UNTIL), 0),
        (DecisionsWanted(until=SINCE), 0),
        (DecisionsWanted(until=UNTIL, outcome=Outcome.GRANTED, caller=B), 1),
    ],
)
def test_every_field_can_be_asked_for(reader: LedgerReader, wanted: DecisionsWanted, expected: int) -> None:
    assert len(reader.newest(wanted, 100)) == expected
    assert len(reader.after(wanted, 0, 100)) == expected


def test_a_pattern_that_is_none_is_told(reader: LedgerReader) -> None:
    with pytest.raises(LedgerFault, match="cannot be part of"):
        reader.newest(DecisionsWanted(caller="spiffe://prod.example/ns/a*"), 1)


def test_pages_hold_everything_once(reader: LedgerReader) -> None:
    seen, before = [], None
    while page := reader.newest(DecisionsWanted(), 4, before):
        seen += [stored.seq for stored in page]
        before = seen[-1]
    assert seen == sorted(seen, reverse=True) == list(range(9, 0, -1))
    assert reader.last_seq() == 9


def test_refusals_are_grouped_and_the_last_is_shown(reader: LedgerReader) -> None:
    often, once = reports.denials(reader, since=SINCE, until=UNTIL, limit=10)
    assert (often.requests, often.caller, often.reason) == (2, A, "SCOPE_NOT_ALLOWED")
    assert often.newest.scopes_asked == "write"
    assert often.first <= often.last
    assert (once.requests, once.audience) == (1, MAIL)
    assert reports.denials(reader, since=UNTIL, until=UNTIL + 1, limit=10) == []


def test_uses_are_told_by_address_without_its_port(reader: LedgerReader) -> None:
    uses = list(reports.uses(reader, since=SINCE, until=UNTIL))
    assert sum(use.requests for use in uses) == 9
    assert {use.address for use in uses} == {"ipv4:10.0.0.1", "ipv6:%5B::1%5D", "ipv4"}
    assert {use.application for use in uses if use.caller == A} == {"ledger", "hr"}


def test_what_was_granted_is_told_once(reader: LedgerReader) -> None:
    given = reports.granted(reader, since=SINCE, until=UNTIL)
    assert {(tuple(sorted(each.rules)), tuple(sorted(each.scopes))) for each in given if each.audience != MAIL} == {
        (("one",), ("ledger.read",)),
        (("one", "two"), ("a", "b")),
        (("old",), ("ledger.read",)),
    }
    assert (reports.oldest(reader) or 0) > SINCE


def test_who_asks_most_and_what_is_alive(reader: LedgerReader) -> None:
    found = reports.top(reader, since=SINCE, until=UNTIL, now=microseconds(NOW), limit=1)
    assert [(each.name, each.requests) for each in found.callers] == [(A, 7)]
    assert [(each.name, each.requests) for each in found.alive] == [("https://ledger.prod.example", 5)]
    assert found.alive[0].last == (EXPIRES + 60) * 1_000_000


def test_exceptions_that_were_used(reader: LedgerReader) -> None:
    (found,) = reports.exception_uses(reader, since=SINCE, until=UNTIL)
    assert (found.rules, found.caller, found.requests) == ("old", A, 1)
    assert found.alive_until == (EXPIRES + 60) * 1_000_000


async def test_an_empty_ledger_has_nothing_to_report(tmp_path: Path) -> None:
    ledger = group_commit(SqliteLedger(tmp_path / "l"))
    await ledger.open()
    await ledger.close()
    empty = LedgerReader.sqlite(tmp_path / "l")
    assert reports.oldest(empty) is None
    assert reports.top(empty, since=0, until=UNTIL, now=0, limit=5) == Top([], [], [])
    assert empty.newest(DecisionsWanted(since=1), 5) == []
