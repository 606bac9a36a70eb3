"""Approvals in every store: each step and each use once, in one order, known after a restart."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from support.approvals import ALICE, BOB, MINUTES, SETTLER, begun, given, question, using
from support.eventually import eventually_true
from support.ledgers import group_commit, record

from issuer.core.approval_book import ApprovalBook
from issuer.core.approval_state import Status
from issuer.core.instants import microseconds
from issuer.ledger.schema import VERSION
from issuer.ledger.verification import verify_ledger
from issuer.ports import ClaimTaken
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.stores import Store

    from issuer.core.approval_request import Question
    from issuer.core.approvals import Approved
    from issuer.ledger.group_commit import GroupCommit


class Opened:
    """A ledger with what is known of its approvals."""

    def __init__(self, store: Store) -> None:
        self.book = ApprovalBook()
        self.ledger: GroupCommit = group_commit(store.engine(), approvals=self.book)

    def status(self, asked: Question) -> Status:
        known = self.book.get(asked.id)
        assert known is not None
        return known.status_at(microseconds(SystemClock().now()))

    def approved(self, asked: Question) -> Approved:
        known = self.book.get(asked.id)
        assert known is not None
        approved = known.approved_at(microseconds(SystemClock().now()))
        assert approved is not None
        return approved


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


async def outcomes(*writes: object) -> list[str]:
    answers = await asyncio.gather(*writes, return_exceptions=True)  # type: ignore[call-overload]
    return sorted("written" if answer is None else type(answer).__name__ for answer in answers)


async def test_each_step_is_known_when_write_returns_and_after_a_restart(store: Store, opened: Opened) -> None:
    asked = question(uses=2)
    await opened.ledger.write(begun(asked))
    assert opened.status(asked) is Status.PENDING
    await opened.ledger.write(given(asked))
    assert opened.status(asked) is Status.APPROVED
    await opened.ledger.write(using(opened.approved(asked)))
    again = await reopened(store, opened)
    assert again.book.get(asked.id) == opened.book.get(asked.id)
    assert again.approved(asked).uses == 1
    await again.ledger.write(using(again.approved(asked)))
    last = await reopened(store, again)
    assert last.status(asked) is Status.USED_UP
    await last.ledger.close()


async def test_each_step_is_chained(store: Store, opened: Opened) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    await opened.ledger.write(using(opened.approved(asked)))
    found = verify_ledger(store.reader)
    assert (found.entries, found.faults) == (4, ())
    events = store.ask("SELECT kind, actor, detail FROM event ORDER BY seq")[1:]
    assert [(kind, actor) for kind, actor, _ in events] == [("approval_requested", SETTLER), ("approval_given", ALICE)]
    assert json.loads(str(events[1][2]))["request"] == asked.id


async def test_of_two_steps_made_at_once_one_is_written(opened: Opened) -> None:
    asked = question(quorum=2)
    await opened.ledger.write(begun(asked))
    twice = [opened.ledger.write(given(asked, by)) for by in (ALICE, BOB)]
    assert await outcomes(*twice, opened.ledger.write(record())) == ["ClaimTaken", "written", "written"]
    known = opened.book.get(asked.id)
    assert known is not None
    assert (len(known.given), known.number) == (1, 2)


async def test_an_approval_is_used_once_however_many_try(store: Store, opened: Opened) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    approved = opened.approved(asked)
    writes = [opened.ledger.write(using(approved), record()) for _ in range(200)]
    assert await outcomes(*writes) == ["ClaimTaken"] * 199 + ["written"]
    again = await reopened(store, opened)
    with pytest.raises(ClaimTaken):
        await again.ledger.write(using(approved))
    await again.ledger.close()
    assert store.ask("SELECT count(*) FROM decision") == [(2,)]


async def test_the_same_use_twice_in_one_write_is_not_written(opened: Opened) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    with pytest.raises(ClaimTaken):
        await opened.ledger.write(using(opened.approved(asked)), using(opened.approved(asked)))
    await opened.ledger.write(using(opened.approved(asked)))


async def test_a_decision_without_a_token_uses_nothing(opened: Opened) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    await opened.ledger.write(using(opened.approved(asked), token_id="", token_sha256=b"", expires_at=None))
    assert opened.status(asked) is Status.APPROVED


async def test_the_same_question_is_written_once_at_a_time(opened: Opened) -> None:
    assert await outcomes(*(opened.ledger.write(begun(question())) for _ in range(5))) == ["ClaimTaken"] * 4 + [
        "written"
    ]
    old = question(age=16 * MINUTES, follows="before")
    await opened.ledger.write(begun(old))
    await opened.ledger.write(begun(question(follows="before")))  # nobody waits for the one before any more


async def test_what_is_over_is_forgotten(store: Store, opened: Opened) -> None:
    old = question(age=31 * MINUTES)
    await opened.ledger.write(begun(old))
    assert opened.book.get(old.id) is None
    again = await reopened(store, opened)
    assert again.book.get(old.id) is None
    ancient = question(age=60 * 24 * 3 * MINUTES, follows="x")
    await again.ledger.write(begun(ancient))
    await again.ledger.write(begun(question(follows="y")))
    await again.ledger.close()
    assert store.ask(f"SELECT count(*) FROM claim WHERE key LIKE '%{ancient.id}%'") == [(0,)]  # noqa: S608


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
async def test_issuers_that_share_a_ledger_use_an_approval_once(store: Store, opened: Opened) -> None:
    other = Opened(store)
    await other.ledger.open()
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    await eventually_true(lambda: (known := other.book.get(asked.id)) is not None and known.status is Status.APPROVED)
    writes = [each.ledger.write(using(each.approved(asked)), record()) for each in (opened, other) for _ in range(20)]
    assert await outcomes(*writes) == ["ClaimTaken"] * 39 + ["written"]
    await eventually_true(lambda: other.status(asked) is opened.status(asked) is Status.USED_UP)
    await other.ledger.close()


async def test_a_ledger_from_before_there_were_approvals_is_brought_up_and_verifies(
    store: Store, opened: Opened
) -> None:
    await opened.ledger.write(record())
    await opened.ledger.close()
    with store.writing().begin() as connection:
        connection.execute(text("DROP TABLE claim"))
        connection.execute(text("ALTER TABLE decision DROP COLUMN approval"))
        connection.execute(text("DELETE FROM meta WHERE name = 'claims'"))
        connection.execute(text("UPDATE meta SET value = '2' WHERE name = 'schema'"))
    assert store.migrate() == (2, VERSION)
    again = Opened(store)
    await again.ledger.open()
    asked = question()
    await again.ledger.write(begun(asked))
    await again.ledger.write(given(asked))
    await again.ledger.write(using(again.approved(asked)))
    await again.ledger.close()
    assert verify_ledger(store.reader).faults == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("DELETE FROM claim WHERE key LIKE 'approval/%/3'", "was removed from the table"),
        ("DELETE FROM claim WHERE key LIKE 'approval/%/2'", "was removed from the table"),
        ("UPDATE claim SET actor = 'nobody' WHERE key LIKE 'approval/%/2'", "another than was chained"),
        ("UPDATE claim SET key = 'approval/x/1' WHERE key LIKE 'approval/%/3'", "no entry tells of it"),
    ],
)
async def test_verify_finds_what_was_done_to_the_table(store: Store, opened: Opened, change: str, fault: str) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    await opened.ledger.write(using(opened.approved(asked)))
    with store.writing().begin() as connection:
        connection.execute(text(change))
    assert any(fault in found.problem for found in verify_ledger(store.reader).faults)


async def test_verify_finds_that_an_approval_was_used_twice(store: Store, opened: Opened) -> None:
    asked = question()
    await opened.ledger.write(begun(asked))
    await opened.ledger.write(given(asked))
    approved = opened.approved(asked)
    await opened.ledger.write(using(approved))
    with store.writing().begin() as connection:
        connection.execute(text("DELETE FROM claim WHERE key LIKE 'approval/%/3'"))
    again = await reopened(store, opened)
    await again.ledger.write(using(approved))
    await again.ledger.close()
    assert [found.problem for found in verify_ledger(store.reader).faults] == ["two entries took it"]
