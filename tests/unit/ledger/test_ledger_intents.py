"""Intents in every store: each step and each use once, in one order, known after a restart."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import structlog
from sqlalchemy import text
from support.eventually import eventually_true
from support.intents import MINUTES, SCHEDULER, WORKER, cancelled, registered, registration, using
from support.ledgers import group_commit, record

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.instants import moment
from issuer.core.intent_book import IntentBook
from issuer.core.intent_state import Status
from issuer.intent_expiry import AT_ONCE, IntentExpiry
from issuer.ledger.verification import verify_ledger
from issuer.ports import ClaimTaken
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from support.stores import Store

    from issuer.core.intent_registration import Registration
    from issuer.core.intent_state import RegisteredIntent
    from issuer.core.ledger_entries import Entry
    from issuer.ledger.group_commit import GroupCommit


class Opened:
    """A ledger with what is known of its intents."""

    def __init__(self, store: Store) -> None:
        self.book = IntentBook()
        self.ledger: GroupCommit = group_commit(store.engine(), books=[self.book])
        self.told = 0

    def known(self, asked: Registration) -> RegisteredIntent:
        known = self.book.get(asked.id)
        assert known is not None
        return known

    def expiry(self) -> IntentExpiry:
        def told() -> None:
            self.told += 1

        log = structlog.get_logger()
        return IntentExpiry(intents=self.book, ledger=self.ledger, clock=SystemClock(), log=log, told=told)


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
    asked = registration(uses=2, request_id="job-7")
    await opened.ledger.write(record(), registered(asked))
    await opened.ledger.write(using(opened.known(asked)))
    assert opened.known(asked).uses_left == 1
    again = await reopened(store, opened)
    assert again.known(asked) == opened.known(asked)
    assert again.book.of_request(SCHEDULER, "job-7") == again.known(asked)
    await again.ledger.write(using(again.known(asked)))
    last = await reopened(store, again)
    assert last.known(asked).status is Status.REDEEMED
    await last.ledger.close()


async def test_each_step_is_chained(store: Store, opened: Opened) -> None:
    asked, other = registration(), registration()
    await opened.ledger.write(registered(asked), registered(other))
    await opened.ledger.write(using(opened.known(asked)))
    await opened.ledger.write(cancelled(other))
    found = verify_ledger(store.reader)
    assert (found.entries, found.faults) == (5, ())
    events = store.ask("SELECT kind, actor, detail FROM event ORDER BY seq")[1:]
    assert [(kind, actor) for kind, actor, _ in events] == [
        ("intent_registered", SCHEDULER), ("intent_registered", SCHEDULER), ("intent_cancelled", SCHEDULER),
    ]  # fmt: skip
    assert json.loads(str(events[0][2]))["intent"] == asked.id


async def test_an_intent_is_redeemed_once_however_many_try(store: Store, opened: Opened) -> None:
    asked = registration()
    await opened.ledger.write(registered(asked))
    waiting = opened.known(asked)
    writes = [opened.ledger.write(using(waiting), record()) for _ in range(1_000)]
    assert await outcomes(*writes) == ["ClaimTaken"] * 999 + ["written"]
    again = await reopened(store, opened)
    with pytest.raises(ClaimTaken):
        await again.ledger.write(using(waiting))
    await again.ledger.close()
    assert store.ask("SELECT count(*) FROM decision") == [(2,)]


async def test_of_redeeming_and_taking_back_at_once_one_is_written(opened: Opened) -> None:
    for _ in range(5):
        asked = registration()
        await opened.ledger.write(registered(asked))
        both = opened.ledger.write(using(opened.known(asked))), opened.ledger.write(cancelled(asked))
        assert await outcomes(*both) == ["ClaimTaken", "written"]
        assert opened.known(asked).status in {Status.REDEEMED, Status.CANCELLED}
        assert opened.known(asked).number == 2


async def test_a_decision_without_a_token_uses_nothing(opened: Opened) -> None:
    asked = registration()
    await opened.ledger.write(registered(asked))
    await opened.ledger.write(using(opened.known(asked), token_id="", token_sha256=b"", expires_at=None))
    assert opened.known(asked).status is Status.REGISTERED


async def test_the_same_request_is_registered_once(opened: Opened) -> None:
    writes = [opened.ledger.write(registered(registration(request_id="job-7"))) for _ in range(5)]
    assert await outcomes(*writes) == ["ClaimTaken"] * 4 + ["written"]
    await opened.ledger.write(registered(registration(request_id="job-7", registrar=WORKER, consumer=SCHEDULER)))
    assert len(opened.book) == 2


async def test_what_expires_is_told_once_and_stays_told(store: Store, opened: Opened) -> None:
    expired, waiting = registration(age=61 * MINUTES), registration()
    await opened.ledger.write(registered(expired), registered(waiting))
    await asyncio.gather(*(opened.expiry().tell() for _ in range(3)))
    assert (opened.told, opened.known(expired).status) == (1, Status.EXPIRED)
    assert opened.known(waiting).status is Status.REGISTERED
    again = await reopened(store, opened)
    await again.expiry().tell()
    assert (again.told, again.known(expired).status) == (0, Status.EXPIRED)
    await again.ledger.close()
    assert store.ask("SELECT kind, actor FROM event WHERE kind = 'intent_expired'") == [("intent_expired", "")]
    assert verify_ledger(store.reader).faults == ()


async def test_it_looks_for_what_expired_until_it_is_told_to_stop(opened: Opened) -> None:
    await opened.ledger.write(*(registered(registration(age=61 * MINUTES)) for _ in range(AT_ONCE + 1)))
    stop = asyncio.Event()
    looking = asyncio.create_task(opened.expiry().run(stop))
    await eventually_true(lambda: opened.told == AT_ONCE + 1)
    stop.set()
    await looking


class _Away:
    """A ledger that cannot be written."""

    async def write(self, *_: Entry, within: float | None = None, epoch: int | None = None) -> None:
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, f"away {within} {epoch}")


class _SetBack:
    """A clock that is set back between the look and the entry."""

    def __init__(self, *times: datetime) -> None:
        self._times = list(times)

    def now(self) -> datetime:
        return self._times.pop(0)


@pytest.mark.parametrize("clock", [SystemClock(), None])
async def test_what_cannot_be_told_now_is_told_later(opened: Opened, clock: SystemClock | None) -> None:
    asked = registration(age=61 * MINUTES)
    await opened.ledger.write(registered(asked))
    told: list[int] = []
    expiry = IntentExpiry(
        intents=opened.book,
        ledger=_Away(),
        clock=clock or _SetBack(moment(asked.expires_at), moment(asked.created)),
        log=structlog.get_logger(),
        told=lambda: told.append(1),
    )
    await expiry.tell()
    assert (told, opened.known(asked).status) == ([], Status.REGISTERED)
    await opened.expiry().tell()
    assert opened.told == 1


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
async def test_issuers_that_share_a_ledger_redeem_an_intent_once_and_tell_once(store: Store, opened: Opened) -> None:
    other = Opened(store)
    await other.ledger.open()
    asked, late = registration(), registration(age=61 * MINUTES)
    await opened.ledger.write(registered(asked), registered(late))
    await eventually_true(lambda: len(other.book) == 2)
    writes = [each.ledger.write(using(each.known(asked)), record()) for each in (opened, other) for _ in range(20)]
    assert await outcomes(*writes) == ["ClaimTaken"] * 39 + ["written"]
    await asyncio.gather(opened.expiry().tell(), other.expiry().tell())
    await eventually_true(lambda: other.known(asked).status is opened.known(asked).status is Status.REDEEMED)
    await eventually_true(lambda: other.known(late).status is opened.known(late).status is Status.EXPIRED)
    assert opened.told + other.told == 1
    await other.ledger.close()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("DELETE FROM claim WHERE key LIKE 'intent/%/2'", "was removed from the table"),
        ("DELETE FROM claim WHERE key LIKE 'intent/%/1'", "was removed from the table"),
        ("UPDATE claim SET actor = 'nobody' WHERE key LIKE 'intent/%/1'", "another than was chained"),
        ("UPDATE claim SET key = 'intent/x/1' WHERE key LIKE 'intent/%/2'", "no entry tells of it"),
    ],
)
async def test_verify_finds_what_was_done_to_the_table(store: Store, opened: Opened, change: str, fault: str) -> None:
    asked = registration()
    await opened.ledger.write(registered(asked))
    await opened.ledger.write(using(opened.known(asked)))
    with store.writing().begin() as connection:
        connection.execute(text(change))
    assert any(fault in found.problem for found in verify_ledger(store.reader).faults)


async def test_verify_finds_that_an_intent_was_redeemed_twice(store: Store, opened: Opened) -> None:
    asked = registration()
    await opened.ledger.write(registered(asked))
    waiting = opened.known(asked)
    await opened.ledger.write(using(waiting))
    with store.writing().begin() as connection:
        connection.execute(text("DELETE FROM claim WHERE key LIKE 'intent/%/2'"))
    again = await reopened(store, opened)
    await again.ledger.write(using(waiting))
    await again.ledger.close()
    assert [found.problem for found in verify_ledger(store.reader).faults] == ["two entries took it"]
