from __future__ import annotations

from datetime import timedelta

import pytest

from agent_client.errors import AccessDenied, IssuerTimedOut, IssuerUnavailable, LimitExceeded
from agent_client.retry import LONGEST_PAUSE, checked_timeout, pause_after

AWAY = IssuerUnavailable("away")


def test_pauses_grow_and_stay_bounded() -> None:
    pauses = [pause_after(AWAY, attempt, 1000) for attempt in (*range(8), 10**6)]
    for attempt, pause in enumerate(pauses):
        longest = min(0.05 * 2 ** min(attempt, 5), LONGEST_PAUSE)
        assert pause is not None
        assert longest / 2 <= pause <= longest


def test_no_attempt_would_start_after_the_deadline() -> None:
    assert pause_after(AWAY, 5, 0.4) is None
    assert pause_after(AWAY, 0, 0) is None
    assert pause_after(AWAY, 0, -1) is None


def test_nothing_else_is_tried_again() -> None:
    assert pause_after(AccessDenied("no"), 0, 1000) is None
    assert pause_after(IssuerTimedOut("late"), 0, 1000) is None


def test_no_attempt_is_earlier_than_the_issuer_says() -> None:
    for kind in (LimitExceeded, IssuerUnavailable):
        pause = pause_after(kind("slow down", retry_after=timedelta(seconds=3)), 0, 4)
        assert pause is not None
        assert 3 < pause <= 3.05


def test_an_issuer_that_says_to_come_back_after_the_deadline_is_not_asked_again() -> None:
    assert pause_after(LimitExceeded("slow down", retry_after=timedelta(seconds=3)), 0, 3) is None


def test_a_limit_without_a_time_is_final() -> None:
    assert pause_after(LimitExceeded("too much"), 0, 1000) is None


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_positive_number(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        checked_timeout(seconds)
    assert checked_timeout(0.1) == 0.1
