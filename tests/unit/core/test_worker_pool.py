"""What the supervisor of workers decides."""

from __future__ import annotations

import pytest

from issuer.core.worker_pool import (
    LONGEST_PAUSE_SECONDS,
    LOOP_FAILURES,
    MAX_WORKERS,
    STARTING,
    STEADY_SECONDS,
    Report,
    Restarts,
    pool_readiness,
    strays,
    worker_count,
)

SERVES = Report(serving=True)
AWAY = Report(serving=False, reason="the ledger cannot be written")


def test_each_short_life_doubles_the_pause_up_to_the_longest() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_after(1.0, asked=False) for _ in range(8)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_a_steady_life_begins_the_pauses_anew() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.pause_after(1.0, asked=False)
    assert restarts.pause_after(STEADY_SECONDS, asked=False) == 0.2
    assert restarts.failures == 1


def test_one_that_was_asked_to_leave_is_replaced_at_once_and_counts_for_nothing() -> None:
    restarts = Restarts()
    assert restarts.pause_after(0.1, asked=True) == 0.0
    assert restarts.failures == 0


def test_so_many_short_lives_in_a_row_are_a_loop() -> None:
    restarts = Restarts()
    loops = []
    for _ in range(LOOP_FAILURES):
        restarts.pause_after(1.0, asked=False)
        loops.append(restarts.is_loop)
    assert loops == [False] * (LOOP_FAILURES - 1) + [True]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([], STARTING),
        ([STARTING, STARTING], STARTING),
        ([AWAY, SERVES], SERVES),
        ([Report(serving=False), AWAY], AWAY),
        ([Report(serving=False)], STARTING),
    ],
)
def test_the_issuer_serves_while_one_worker_does(reports: list[Report], expected: Report) -> None:
    assert pool_readiness(reports) == expected


def test_a_worker_strays_that_came_to_another_policy_or_did_not_answer() -> None:
    assert strays({1: "sha256:aa", 2: None, 3: "sha256:bb"}, "sha256:aa") == [2, 3]
    assert strays({}, "sha256:aa") == []


@pytest.mark.parametrize(("asked", "cores", "expected"), [(0, 4, 4), (3, 4, 3), (0, 0, 1), (0, 500, MAX_WORKERS)])
def test_no_number_asks_for_one_on_each_core(asked: int, cores: int, expected: int) -> None:
    assert worker_count(asked, cores) == expected
