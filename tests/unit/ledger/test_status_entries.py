"""Entries of status lists out of a real ledger: no two tokens get the same, whoever issues, whatever dies."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually_true
from support.ledgers import group_commit

from issuer.core import status_index
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.ledger_claims import ClaimRow
from issuer.core.ledger_entries import StepTaken
from issuer.core.status_index import (
    BLOCK_SIZE,
    BLOCKS,
    LIST_SIZE,
    Block,
    BlocksTaken,
    StatusIndex,
    first_list,
    hour_of,
)
from issuer.ledger.verification import verify_ledger
from issuer.ports import ClaimTaken
from issuer.status_entries import MAX_TRIES, RESERVE_AT, StatusEntries
from issuer.system import SystemClock

if TYPE_CHECKING:
    from support.stores import Store

    from issuer.core.ledger_entries import Entry
    from issuer.ledger.group_commit import GroupCommit
    from issuer.ports import Ledger

LIFETIME = 300
LONG = 3 * 24 * 3600
"""Of tokens whose lists are weeks apart: the next one is not reserved beside."""


class Issuer:
    """One issuer of several that share a ledger, as far as status lists go."""

    def __init__(self, store: Store) -> None:
        self.blocks = BlocksTaken()
        self.ledger: GroupCommit = group_commit(store.engine(), blocks=self.blocks)
        self.entries = entries(self.ledger, self.blocks)

    async def take(self, count: int, lifetime: int = LIFETIME) -> list[int]:
        now = SystemClock().now()
        wanted = (self.entries.take(int(now.timestamp()) + lifetime, now) for _ in range(count))
        return list(await asyncio.gather(*wanted))


def entries(ledger: Ledger, blocks: BlocksTaken, order: Random | None = None) -> StatusEntries:
    return StatusEntries(ledger=ledger, blocks=blocks, clock=SystemClock(), order=order or SystemRandom())


async def test_entries_of_one_issuer_are_random_and_each_is_given_once(store: Store) -> None:
    issuer = Issuer(store)
    await issuer.ledger.open()
    taken = await issuer.take(3 * BLOCK_SIZE)
    assert len(set(taken)) == len(taken)
    indexes = [StatusIndex.of_number(number).index for number in taken]
    assert indexes[:BLOCK_SIZE] != sorted(indexes[:BLOCK_SIZE])
    assert max(indexes) < LIST_SIZE
    await issuer.ledger.close()
    assert len(issuer.blocks.lists) <= 2, "that of the hour, and the next one"
    assert verify_ledger(store.reader).faults == ()


async def test_after_a_restart_no_entry_of_before_is_given_again(store: Store) -> None:
    taken: list[int] = []
    for _ in range(4):
        issuer = Issuer(store)
        await issuer.ledger.open()
        taken += await issuer.take(20)
        await issuer.ledger.close()
    assert len(set(taken)) == len(taken) == 80


async def test_an_issuer_that_has_not_heard_of_the_others_yet_gets_other_entries(store: Store) -> None:
    """Its book of blocks is empty, and chance picks the same blocks for all: the ledger alone tells them apart."""
    issuer = Issuer(store)
    await issuer.ledger.open()
    now = SystemClock().now()
    expires_at = int(now.timestamp()) + LIFETIME
    some = await asyncio.gather(
        *(
            entries(issuer.ledger, issuer.blocks, Random(7)).take(expires_at, now)  # noqa: S311 - so that they collide
            for _ in range(10)
        )
    )
    assert len(set(some)) == len(some)
    await issuer.ledger.close()
    list_number = StatusIndex.of_number(some[0]).list_number
    claimed = store.ask(f"SELECT count(*) FROM claim WHERE key LIKE 'status/{list_number}/%'")  # noqa: S608
    assert claimed == [(10,)]
    assert verify_ledger(store.reader).faults == ()


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
async def test_two_issuers_at_once_share_no_entry(store: Store) -> None:
    """Each has its own connection and chain. An SQLite file has one writer, and so one issuer."""
    first, second = Issuer(store), Issuer(store)
    await first.ledger.open()
    await second.ledger.open()
    taken = await asyncio.gather(*(issuer.take(BLOCK_SIZE + 5) for issuer in (first, second, first, second)))
    together = [number for some in taken for number in some]
    assert len(set(together)) == len(together) == 4 * (BLOCK_SIZE + 5)
    await first.ledger.close()
    await second.ledger.close()
    assert verify_ledger(store.reader).faults == ()


async def test_tokens_that_end_at_different_times_are_in_different_lists(store: Store) -> None:
    issuer = Issuer(store)
    await issuer.ledger.open()
    (soon,), (late,) = await issuer.take(1), await issuer.take(1, lifetime=40 * 24 * 3600)
    await issuer.ledger.close()
    now = int(SystemClock().now().timestamp())
    for number, lifetime in ((soon, LIFETIME), (late, 40 * 24 * 3600)):
        assert StatusIndex.of_number(number).list_number in {
            first_list(hour_of(at + lifetime, at)) for at in (now - 60, now)
        }


class Unwilling:
    """A ledger that takes no block."""

    def __init__(self, error: Exception | None, taken: int = 0) -> None:
        self.error = error
        self.left = taken
        self.tries = 0

    async def write(self, *entries: Entry, within: float | None = None, epoch: int | None = None) -> None:
        assert isinstance(entries[0], StepTaken)
        assert (within, epoch) == (None, None)
        self.tries += 1
        if self.error is None:
            await asyncio.sleep(3600)
        elif self.tries > self.left:
            raise self.error


def refusal(message: str) -> TemporarilyUnavailable:
    return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, message)


@pytest.mark.parametrize(
    ("error", "why", "tries"),
    [
        (refusal("the ledger cannot be written"), "because the ledger cannot be written", 1),
        (ClaimTaken(frozenset({"status/1/1"})), "because others took them first", MAX_TRIES),
    ],
)
async def test_without_a_block_there_is_no_token(error: Exception, why: str, tries: int) -> None:
    ledger = Unwilling(error)
    now = SystemClock().now()
    with pytest.raises(TemporarilyUnavailable, match=why) as refused:
        await entries(ledger, BlocksTaken()).take(int(now.timestamp()) + 60, now)
    assert refused.value.reason is Reason.STATUS_UNAVAILABLE
    assert ledger.tries == tries


async def test_a_caller_waits_no_longer_than_it_has() -> None:
    book = entries(Unwilling(None), BlocksTaken())
    now = SystemClock().now()
    for within in (0.01, 0.0, -1.0):
        with pytest.raises(TemporarilyUnavailable, match="in time"):
            await book.take(int(now.timestamp()) + 60, now, within)


async def test_when_every_list_of_the_hour_is_full_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_index, "LISTS_OF_AN_HOUR", 1)
    now = SystemClock().now()
    expires_at = int(now.timestamp()) + 60
    blocks = BlocksTaken()
    full = [Block(hour_of(expires_at, expires_at - 60), number) for number in range(1, BLOCKS + 1)]
    blocks.learn([ClaimRow(block.number, block.key, 0, "", "{}", 2**60) for block in full], now)
    with pytest.raises(TemporarilyUnavailable, match="every list is full"):
        await entries(Unwilling(None), blocks).take(expires_at, now)


async def test_the_next_block_is_reserved_before_the_last_is_used_up_and_a_failure_then_hurts_nobody() -> None:
    ledger = Unwilling(refusal("away"), taken=1)
    book = entries(ledger, BlocksTaken())
    now = SystemClock().now()
    for _ in range(BLOCK_SIZE - RESERVE_AT):
        await book.take(int(now.timestamp()) + LONG, now)
    assert ledger.tries == 1
    await book.take(int(now.timestamp()) + LONG, now)
    await asyncio.sleep(0)
    assert ledger.tries == 2
    for _ in range(RESERVE_AT - 1):
        await book.take(int(now.timestamp()) + LONG, now)
    with pytest.raises(TemporarilyUnavailable, match="away"):
        await book.take(int(now.timestamp()) + LONG, now)


async def test_the_list_of_the_next_hour_is_there_before_a_token_names_it(store: Store) -> None:
    """Else its first verifiers would find none: it has to be signed and shown first."""
    issuer = Issuer(store)
    await issuer.ledger.open()
    now = SystemClock().now()
    hour = hour_of(int(now.timestamp()) + LIFETIME, int(now.timestamp()))
    await issuer.entries.take(int(now.timestamp()) + LIFETIME, now)
    await eventually_true(lambda: issuer.blocks.lists == [first_list(hour), first_list(hour + 1)])
    await issuer.ledger.close()


async def test_what_is_left_of_an_hour_that_is_over_is_let_go() -> None:
    ledger, clock = Unwilling(refusal("away"), taken=2), Moving()
    book = StatusEntries(ledger=ledger, blocks=BlocksTaken(), clock=clock, order=SystemRandom())
    await book.take(int(clock.now().timestamp()) + LONG, clock.now())
    assert len(book._ready) == 1
    clock.moment += timedelta(days=15)
    await book.take(int(clock.now().timestamp()) + LONG, clock.now())
    assert len(book._ready) == 1


class Moving:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


def test_there_are_enough_blocks_for_the_tries() -> None:
    assert BLOCKS > MAX_TRIES
