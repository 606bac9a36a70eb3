"""When those come back who were refused because there was too much to do."""

from __future__ import annotations

from issuer.core.retry_times import CROWD, LOOK_SECONDS, SHORTEST_SECONDS, SPANS, STEPS, RetryTimes


def second(times: RetryTimes, now: float, *, refused: int, answered: int) -> list[float]:
    """Let a second go by; return the times that were told in it."""
    for _ in range(answered):
        times.answered()
    return [times.after_refusal(now + number * LOOK_SECONDS / refused).total_seconds() for number in range(refused)]


def test_those_who_are_refused_together_come_back_at_different_times() -> None:
    told = second(RetryTimes(), 0.0, refused=STEPS, answered=1000)
    assert len(set(told)) == STEPS
    assert SHORTEST_SECONDS <= min(told) <= max(told) < SHORTEST_SECONDS + SPANS[0]


def test_while_many_more_are_refused_than_answered_they_come_back_later_and_later_up_to_a_bound() -> None:
    times = RetryTimes()
    latest = [max(second(times, float(now), refused=160, answered=159 // CROWD)) for now in range(5)]
    assert latest == sorted(latest)
    assert latest[0] < SHORTEST_SECONDS + SPANS[0]
    assert SHORTEST_SECONDS + SPANS[-1] / 2 < latest[-1] < SHORTEST_SECONDS + SPANS[-1]


def test_when_fewer_are_refused_than_answered_they_come_back_sooner_again() -> None:
    times = RetryTimes()
    for now in range(5):
        second(times, float(now), refused=160, answered=159 // CROWD)
    latest = [max(second(times, 5.0 + now, refused=16, answered=20)) for now in range(4)]
    assert latest[-1] < SHORTEST_SECONDS + SPANS[0]


def test_a_crowd_that_is_past_says_nothing_about_the_next() -> None:
    times = RetryTimes()
    for now in range(5):
        second(times, float(now), refused=160, answered=159 // CROWD)
    assert times.after_refusal(100.0).total_seconds() < SHORTEST_SECONDS + SPANS[1]


def test_when_as_many_are_answered_as_refused_it_stays_as_it_is() -> None:
    times = RetryTimes()
    latest = [max(second(times, float(now), refused=160, answered=160)) for now in range(5)]
    assert max(latest) < SHORTEST_SECONDS + SPANS[0]


def test_those_who_are_told_by_others_are_told_the_same_times_and_count_as_much() -> None:
    ours, theirs = RetryTimes(), RetryTimes()
    for now in range(5):
        told = [ours.after_refusal(now + number * LOOK_SECONDS / 160) for number in range(160)]
        theirs.refused(1, float(now))
        theirs.refused(159, now + LOOK_SECONDS * 0.9)
        assert set(told) == set(theirs.times), now
