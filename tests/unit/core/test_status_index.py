"""Which entry of which list a token gets."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from issuer.core.ledger_claims import ClaimRow, claims_of
from issuer.core.status_index import (
    BLOCK_SIZE,
    BLOCKS,
    LIST_SIZE,
    LISTS_OF_AN_HOUR,
    Block,
    BlocksTaken,
    StatusIndex,
    first_list,
    hour_of,
    over_at,
)

HOUR = 3600
NOW = 500_000 * HOUR
AT = datetime.fromtimestamp(NOW, UTC)
NUMBERS = range(1, BLOCKS + 1)
ORDER = Random(7)  # noqa: S311 - a test that can be repeated


def test_a_list_is_a_multiple_of_8_and_of_its_blocks() -> None:
    assert LIST_SIZE % 8 == 0
    assert BLOCKS * BLOCK_SIZE == LIST_SIZE


def test_one_number_holds_list_and_index() -> None:
    entry = StatusIndex(500_001 * LISTS_OF_AN_HOUR + 3, LIST_SIZE - 1)
    assert StatusIndex.of_number(entry.number) == entry
    assert entry.number < 2**53, "other programs read it as a float"


@pytest.mark.parametrize(
    ("lifetime", "hour"),
    [
        (1, 500_001),
        (HOUR - 120, 500_001),
        (HOUR - 119, 500_002),
        (2 * HOUR, 500_003),
        (2 * HOUR + 1, 500_016),
        (16 * HOUR, 500_040),
        (48 * HOUR, 500_064),
        (48 * HOUR + 1, 500_136),
        (366 * 24 * HOUR, 508_872),
    ],
)
def test_tokens_that_end_together_share_lists(lifetime: int, hour: int) -> None:
    assert hour_of(NOW + lifetime, NOW) == hour
    assert over_at(first_list(hour)) >= NOW + lifetime + 60, "its last verifier still needs the list"


def test_a_block_gives_each_of_its_entries_once_in_random_order() -> None:
    numbers = Block(5, 4).entries(ORDER)
    entries = [StatusIndex.of_number(number) for number in numbers]
    assert sorted(entry.index for entry in entries) == list(range(3 * BLOCK_SIZE, 4 * BLOCK_SIZE))
    assert {entry.list_number for entry in entries} == {5}
    assert numbers != sorted(numbers)
    assert numbers != Block(5, 4).entries(ORDER)


def rows(*blocks: Block) -> list[ClaimRow]:
    return [
        ClaimRow(version, block.key, 0, "", "{}", over_at(block.list_number) * 1_000_000)
        for version, block in enumerate(blocks, 1)
    ]


def test_a_block_is_claimed_until_its_list_is_over() -> None:
    block = Block(first_list(500_001), 3)
    entry = block.taken(7)
    (claim,) = claims_of([entry])
    assert (claim.key, claim.time, claim.expires_at) == (block.key, 7, 500_001 * HOUR * 1_000_000)
    assert entry.event().kind == "status_block_taken"


def test_takes_blocks_at_random_and_the_next_list_when_one_is_full() -> None:
    taken = BlocksTaken()
    first = first_list(500_001)
    given = []
    for _ in range(BLOCKS + 1):
        block = taken.free(500_001, ORDER)
        assert block is not None
        assert not taken.is_taken(block.key)
        taken.learn(rows(block), AT)
        assert taken.is_taken(block.key)
        given.append(block)
    assert sorted(block.number for block in given[:-1]) == list(range(1, BLOCKS + 1))
    assert [block.number for block in given[:-1]] != list(range(1, BLOCKS + 1))
    assert {block.list_number for block in given[:-1]} == {first}
    assert given[-1].list_number == first + 1
    assert taken.lists == [first, first + 1]


def test_gives_nothing_when_every_list_of_the_hour_is_full() -> None:
    taken = BlocksTaken()
    full = (Block(listed, number) for listed in range(first_list(500_009), first_list(500_010)) for number in NUMBERS)
    taken.learn(rows(*full), AT)
    assert taken.free(500_009, ORDER) is None
    assert taken.free(500_010, ORDER) is not None


def test_passes_over_what_is_no_block_or_is_over() -> None:
    taken = BlocksTaken()
    over = Block(first_list(500_000), 1)
    taken.learn([ClaimRow(1, "approval/5/1", 0, "", "{}", 2**60), *rows(over)], AT)
    assert taken.lists == []
    assert not taken.is_taken("approval/5/1")
    assert not taken.is_taken(over.key)


def test_tells_of_new_lists_and_not_of_more_blocks() -> None:
    taken, told = BlocksTaken(), []
    stop = taken.watch(lambda: told.append(taken.lists))
    one, two = Block(first_list(500_001), 1), Block(first_list(500_002), 1)
    taken.learn(rows(one), AT)
    taken.learn(rows(one, Block(one.list_number, 2)), AT)
    taken.learn(rows(two), AT)
    stop()
    taken.learn(rows(Block(first_list(500_003), 1)), AT)
    assert told == [[one.list_number], [one.list_number, two.list_number]]


def test_forgets_lists_that_are_over() -> None:
    taken = BlocksTaken()
    taken.learn(rows(Block(first_list(500_001), 1), Block(first_list(500_002), 1)), AT)
    assert taken.forget(500_001 * HOUR - 1) == []
    assert taken.forget(500_001 * HOUR) == [first_list(500_001)]
    assert taken.lists == [first_list(500_002)]
