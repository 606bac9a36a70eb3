from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kept_tokens import token

from agent_client.tokens.renewal import (
    EARLIEST,
    FIRST_PAUSE,
    LATEST,
    LONGEST_PAUSE,
    SHORTEST_PATIENCE,
    SOONEST,
    Spread,
    patience,
    pause,
    schedule,
)
from issuer.core.renewal import renew_at as advised_by_the_issuer

POSITIONS = st.floats(0, 1, exclude_max=True)


def test_positions_stay_apart_however_many_there_are() -> None:
    """The widest gap of a Weyl sequence by the golden ratio is about 1.9 times the mean one; at random it is ln n."""
    for count in (10, 100, 1000):
        spread = Spread()
        positions = sorted(spread.next() for _ in range(count))
        assert all(0 <= position < 1 for position in positions)
        gaps = [after - before for before, after in itertools.pairwise(positions)]
        assert max(*gaps, positions[0] + 1 - positions[-1]) * count < 2.7


def test_processes_that_start_together_begin_at_different_positions() -> None:
    assert len({Spread().next() for _ in range(20)}) > 1


def test_a_token_is_renewed_within_its_span_and_handed_out_to_its_end() -> None:
    assert schedule(token(300, 60), 1000.0, 0.0) == (1000 + 60 * EARLIEST, 1300.0)
    assert schedule(token(300, 60), 1000.0, 0.5).renew_at == pytest.approx(1000 + 60 * (EARLIEST + LATEST) / 2)


@given(st.floats(0.001, 86_400), st.floats(0, 1), POSITIONS)
def test_no_token_is_renewed_later_than_the_issuer_advises_unless_that_is_at_once(
    lifetime: float, part: float, position: float
) -> None:
    renew_at, good_until = schedule(token(lifetime, lifetime * part), 0.0, position)
    soonest = min(SOONEST, good_until / 2)
    assert soonest <= renew_at <= max(lifetime * part, soonest) + 1e-5  # a datetime has microseconds
    assert renew_at <= good_until


@pytest.mark.parametrize("advised", [0, -1, -1e9])
def test_an_issuer_that_advises_to_renew_at_once_is_not_asked_without_a_pause(advised: float) -> None:
    assert schedule(token(300, advised), 0.0, 0.0).renew_at == SOONEST
    assert schedule(token(1, advised), 0.0, 0.0).renew_at == 0.5


@given(st.integers(300, 86_400), POSITIONS)
def test_an_outage_of_four_fifths_of_a_life_begins_and_ends_within_the_life(lifetime: int, position: float) -> None:
    """From five minutes on, by the issuer's own advice."""
    renew_at, good_until = schedule(token(lifetime, advised_by_the_issuer(0, lifetime)), 0.0, position)
    assert renew_at + 0.8 * lifetime < good_until


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, FIRST_PAUSE), (2, 2), (3, 4), (4, 8), (5, 16), (6, LONGEST_PAUSE), (10**6, LONGEST_PAUSE)],
)
def test_pauses_double_up_to_a_bound(failures: int, longest: float) -> None:
    assert pause(failures, 0.0, None) == longest / 2
    assert pause(failures, 1.0, None) == longest


@pytest.mark.parametrize(
    ("left", "longest"),
    [(240.0, LONGEST_PAUSE), (239.9, 239.9 / 8), (8.1, 8.1 / 8), (8.0, 1.0), (7.9, 1.0), (0.001, 1.0)],
)
def test_pauses_shorten_while_a_token_ends(left: float, longest: float) -> None:
    assert pause(99, 1.0, left) == pytest.approx(longest)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (None, 10.0),
        (80.0, 10.0),
        (79.9, 79.9 / 8),
        (16.1, 16.1 / 8),
        (16.0, SHORTEST_PATIENCE),
        (0.0, SHORTEST_PATIENCE),
    ],
)
def test_an_attempt_ends_in_time_for_the_next_one(left: float | None, expected: float) -> None:
    assert patience(10.0, left) == pytest.approx(expected)
    assert patience(0.5, left) == 0.5
