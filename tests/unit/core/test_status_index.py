"""Which entry of which list a token gets."""

from __future__ import annotations

from random import Random

import pytest

from issuer.core.status_index import (
    BLOCK_SIZE,
    BLOCKS,
    LIST_SIZE,
    LISTS_OF_AN_HOUR,
    Block,
    BlocksTaken,
    StatusIndex,
    block_of_key,
    first_list,
    hour_of,
    over_at,
)

HOUR = 3600
NOW = 500_000 * HOUR
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
    numbers = Block(5, 3).entries(ORDER)
    entries = [StatusIndex.of_number(number) for number in numbers]
    assert sorted(entry.index for entry in entries) == list(range(3 * BLOCK_SIZE, 4 * BLOCK_SIZE))
    assert {entry.list_number for entry in entries} == {5}
    assert numbers != sorted(numbers)
    assert numbers != Block(5, 3).entries(ORDER)


def test_keys_of_blocks_are_told_from_others() -> None:
    assert block_of_key(Block(5, 3).key) == Block(5, 3)
    assert block_of_key("approval/5/3") is None


def test_takes_blocks_at_random_and_the_next_list_when_one_is_full() -> None:
    taken = BlocksTaken()
    first = first_list(500_001)
    given = []
    for _ in range(BLOCKS + 1):
        block = taken.free(500_001, ORDER)
        assert block is not None
        assert not taken.is_taken(block)
        taken.add(block)
        assert taken.is_taken(block)
        given.append(block)
    assert sorted(block.number for block in given[:-1]) == list(range(BLOCKS))
    assert [block.number for block in given[:-1]] != list(range(BLOCKS))
    assert {block.list_number for block in given[:-1]} == {first}
    assert given[-1].list_number == first + 1
    assert taken.lists == [first, first + 1]


def test_gives_nothing_when_every_list_of_the_hour_is_full() -> None:
    taken = BlocksTaken()
    for listed in range(first_list(9), first_list(10)):
        for number in range(BLOCKS):
            taken.add(Block(listed, number))
    assert taken.free(9, ORDER) is None
    assert taken.free(10, ORDER) is not None


def test_forgets_lists_that_are_over() -> None:
    taken = BlocksTaken()
    taken.add(Block(first_list(500_001), 0))
    taken.add(Block(first_list(500_002), 0))
    assert taken.forget(500_001 * HOUR - 1) == []
    assert taken.forget(500_001 * HOUR) == [first_list(500_001)]
    assert taken.lists == [first_list(500_002)]
