"""Revocations in every store: when they take effect, for which decisions, what is read at the next start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from support.ledgers import group_commit, record, revoking

from issuer.core.ledger_entries import RevocationLifted
from issuer.core.revocation import Issued, Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.ledger.engine import RevocationRow
from issuer.ledger.revocation_book import SWEPT_AFTER, LedgerRevocations
from issuer.ledger.schema import VERSION
from issuer.ledger.verification import verify_ledger
from issuer.ports import DecisionsWanted, EpochMoved
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.stores import Store

    from issuer.core.record import DecisionRecord
    from issuer.ledger.group_commit import GroupCommit

EVERYTHING = Selector(everything=True)


class Opened:
    """A ledger with what is known of its revocations."""

    def __init__(self, store: Store) -> None:
        self.book = LedgerRevocations()
        self.ledger: GroupCommit = group_commit(store.engine(), revocations=self.book)

    async def decide(self, **changes: Any) -> DecisionRecord:
        """Write a decision that depends on the revocations."""
        made = record(**changes)
        await self.ledger.write(made, epoch=self.book.current().epoch)
        return made


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[Opened]:
    one = Opened(store)
    await one.ledger.open()
    yield one
    await one.ledger.close()


async def reopened(store: Store, opened: Opened) -> Opened:
    await opened.ledger.close()
    again = Opened(store)
    await again.ledger.open()
    return again


def issued(made: DecisionRecord) -> Issued:
    rules = tuple(made.rules.split())
    return Issued(SpiffeId.parse(made.caller), made.audience, made.application, rules, made.policy, "", made.time)


def seq_of(store: Store, made: DecisionRecord) -> int:
    [found] = store.reader.find(made.token_id)
    return found.seq


async def test_it_is_known_when_write_returns_and_after_a_restart(store: Store, opened: Opened) -> None:
    before = await opened.decide()
    made = revoking(Selector(audience="https://a"))
    await opened.ledger.write(made)
    again = await reopened(store, opened)
    for book in (opened.book, again.book):
        known = book.get(made.id)
        assert known is not None
        assert (known.selector.audience, known.actor, known.time) == ("https://a", made.actor, made.time)
        assert (known.decisions, known.version, book.epoch) == (seq_of(store, before), 1, 1)
        assert book.current().epoch == 1
    assert store.reader.revocation(made.id) == again.book.get(made.id)
    assert verify_ledger(store.reader).faults == ()
    await again.ledger.close()


async def test_what_was_decided_before_it_is_not_written_after_it(store: Store, opened: Opened) -> None:
    epoch = opened.book.current().epoch
    await opened.ledger.write(revoking(EVERYTHING))
    with pytest.raises(EpochMoved):
        await opened.ledger.write(record(), epoch=epoch)
    await opened.ledger.write(record())  # what depends on no revocation
    await opened.decide()
    assert len(store.reader.after(DecisionsWanted(), 0, 10)) == 2


async def test_in_one_queue_it_goes_first(store: Store, opened: Opened) -> None:
    epoch = opened.book.current().epoch
    decisions = [asyncio.ensure_future(opened.ledger.write(record(), epoch=epoch)) for _ in range(20)]
    revoked = asyncio.ensure_future(opened.ledger.write(revoking(EVERYTHING)))
    outcomes = await asyncio.gather(*decisions, return_exceptions=True)
    await revoked
    [known] = opened.book.by_attributes
    assert {type(outcome) for outcome in outcomes} <= {EpochMoved, type(None)}
    kept = store.reader.after(DecisionsWanted(), 0, 100)
    assert len(kept) == outcomes.count(None)
    assert all(stored.seq <= known.decisions for stored in kept), "what was kept is dead"


async def test_exactly_what_was_recorded_before_it_is_dead(store: Store, opened: Opened) -> None:
    before = await opened.decide()
    await opened.ledger.write(revoking(EVERYTHING, stops_issuance=False))
    after = await opened.decide()
    assert opened.book.killing(issued(before), seq_of(store, before)) is not None
    assert opened.book.killing(issued(after), seq_of(store, after)) is None


async def test_a_lift_ends_the_stop_and_raises_nobody_from_the_dead(store: Store, opened: Opened) -> None:
    before = await opened.decide()
    made = revoking(EVERYTHING)
    await opened.ledger.write(made)
    assert opened.book.current().stopping(issued(before)) is not None
    await opened.ledger.write(RevocationLifted(made.id, made.time + 1, "spiffe://prod.example/other"))
    again = await reopened(store, opened)
    for book in (opened.book, again.book):
        assert book.current().stopping(issued(before)) is None
        assert book.killing(issued(before), seq_of(store, before)) is not None
        assert (book.epoch, book.version) == (2, 2)
    known = again.book.get(made.id)
    assert known is not None
    assert known.lifted == (made.time + 1, "spiffe://prod.example/other")
    assert verify_ledger(store.reader).faults == ()
    await again.ledger.close()


async def test_a_second_lift_changes_nothing_and_stops_nobody(store: Store, opened: Opened) -> None:
    made = revoking(EVERYTHING)
    await opened.ledger.write(made)
    for time in (1, 2):
        await opened.ledger.write(RevocationLifted(made.id, time, "x"))
    known = opened.book.get(made.id)
    assert known is not None
    assert known.lifted == (1, "x")
    await opened.decide()
    assert verify_ledger(store.reader).faults == ()


async def test_single_tokens_make_nobody_decide_again(store: Store, opened: Opened) -> None:
    soon = int(SystemClock().now().timestamp()) + 300
    epoch = opened.book.current().epoch
    await opened.ledger.write(revoking(Selector(token="jti-1"), expires_at=soon))
    await opened.ledger.write(revoking(Selector(token="over"), expires_at=1))
    await opened.ledger.write(record(), epoch=epoch)
    assert opened.book.is_token_revoked("jti-1")
    again = await reopened(store, opened)
    assert again.book.is_token_revoked("jti-1")
    assert not again.book.is_token_revoked("over"), "nobody needs to know it any more"
    assert again.book.tokens_after(0) == [(1, "jti-1", soon, "")]
    assert again.book.tokens_after(1) == []
    assert again.book.epoch == 0
    await again.decide()
    assert verify_ledger(store.reader).faults == ()
    await again.ledger.close()


async def test_of_two_that_depend_on_each_other_one_is_told_to_look_again(opened: Opened) -> None:
    epoch = opened.book.epoch
    writes = (opened.ledger.write(revoking(EVERYTHING), epoch=epoch) for _ in range(2))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EpochMoved", "NoneType"]
    assert len(opened.book.by_attributes) == 1


async def test_more_than_one_answer_of_the_store_can_hold_are_read(
    store: Store, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.ledger.learning.LEARNED_AT_ONCE", 3)
    for number in range(10):
        await opened.ledger.write(revoking(Selector(audience=f"https://{number}")))
    again = await reopened(store, opened)
    assert len(again.book.by_attributes) == 10
    await again.decide()
    await again.ledger.close()


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ("DELETE FROM revocation", "was removed from the table"),
        ("UPDATE revocation SET detail = replace(detail, 'https://a', 'https://b')", "another than was chained"),
        ("UPDATE revocation SET actor = 'nobody'", "another than was chained"),
        ("UPDATE revocation SET lifted_time = 99999999999999999, lifted_by = 'x'", "no entry tells of its lift"),
        ("UPDATE revocation SET id = 'x', time = 99999999999999999", "no entry tells of it"),
    ],
)
async def test_verify_finds_what_was_done_to_the_table(store: Store, opened: Opened, edit: str, fault: str) -> None:
    await opened.ledger.write(revoking(Selector(audience="https://a")))
    await opened.ledger.close()
    with store.writing().begin() as connection:
        connection.execute(text(edit))
    assert fault in " ".join(each.problem for each in verify_ledger(store.reader).faults)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ("UPDATE revocation SET lifted_time = NULL", "its lift was removed from the table"),
        ("UPDATE revocation SET lifted_by = 'nobody'", "the table has another lift than was chained"),
    ],
)
async def test_verify_finds_what_was_done_to_a_lift(store: Store, opened: Opened, edit: str, fault: str) -> None:
    made = revoking(EVERYTHING)
    await opened.ledger.write(made)
    await opened.ledger.write(RevocationLifted(made.id, made.time, "x"))
    await opened.ledger.close()
    with store.writing().begin() as connection:
        connection.execute(text(edit))
    assert [each.problem for each in verify_ledger(store.reader).faults] == [fault]


async def test_a_ledger_of_the_version_before_is_brought_up_and_goes_on(store: Store) -> None:
    before = group_commit(store.engine())
    await before.open()
    await before.write(record())
    await before.close()
    with store.writing().begin() as connection:
        for undo in (
            "DROP TABLE claim",
            "ALTER TABLE decision DROP COLUMN approval",
            "DELETE FROM meta WHERE name = 'claims'",
            "DROP TABLE revocation",
            "DROP INDEX decision_by_expiry",
            "DELETE FROM meta WHERE name = 'epoch'",
            "UPDATE meta SET value = '1' WHERE name = 'schema'",
        ):
            connection.execute(text(undo))
    assert store.migrate() == (1, VERSION)
    one = Opened(store)
    await one.ledger.open()
    await one.ledger.write(revoking(EVERYTHING))
    await one.decide()
    await one.ledger.close()
    assert verify_ledger(store.reader).faults == ()


def test_tokens_whose_time_is_over_are_forgotten() -> None:
    book, now = LedgerRevocations(), SystemClock().now()
    over = int(now.timestamp()) - 1
    entries = [revoking(Selector(token=f"t{n}"), expires_at=over + (2_000 if n else 0)) for n in range(SWEPT_AFTER)]
    rows = [
        RevocationRow(n, each.id, each.time, each.actor, each.event(0, n).detail, None, None)
        for n, each in enumerate(entries, 1)
    ]
    book.learn(rows, now)
    assert not book.is_token_revoked("t0")
    assert book.is_token_revoked("t1")
