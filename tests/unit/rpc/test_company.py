"""Who waits for others to be answered with, in a time of our own."""

import pytest

from issuer.rpc.company import LATE_SECONDS, LATELY_SECONDS, LEAST, LONGEST_SECONDS, LOOK_SECONDS, Company


def after(*here: int) -> Company:
    """Return what is known after so many were here, one moment after the other; the time is 1.0 at the last."""
    company = Company()
    for place, calls in enumerate(here, start=1):
        company.is_here(calls, 1.0 - 0.001 * (len(here) - place))
    return company


def test_whoever_is_alone_waits_for_nobody() -> None:
    assert Company().is_here(1, 0.0)
    assert after(1, 1, 1).is_here(1, 1.001)


@pytest.mark.parametrize("lately", range(1, LEAST))
def test_nobody_waits_where_few_come_at_once(lately: int) -> None:
    assert after(lately).is_here(1, 1.001)


def test_the_first_of_many_waits_until_as_many_are_here_as_lately_were() -> None:
    company = after(LEAST)
    assert [company.is_here(here, 1.001) for here in range(1, LEAST + 2)] == [*[False] * (LEAST - 1), True, True]


def test_more_than_lately_are_expected_from_then_on() -> None:
    company = after(LEAST)
    assert company.is_here(LEAST + 3, 1.001)
    assert not company.is_here(LEAST, 1.002)


def test_how_many_were_here_counts_for_one_span_and_the_next() -> None:
    company = after(16)
    assert not company.is_here(2, 1.0 + LATELY_SECONDS * 1.5)
    assert company.is_here(2, 1.0 + LATELY_SECONDS * 2.6)


def test_after_a_silence_nobody_waits() -> None:
    assert after(16).is_here(1, 1.0 + 2.1 * LATELY_SECONDS)


def test_they_wait_as_long_as_others_come() -> None:
    company = Company()
    company.wait(1, 0.0)
    assert company.is_awaited(2, LOOK_SECONDS, answering=False)
    assert company.is_awaited(3, 2 * LOOK_SECONDS, answering=False)
    assert not company.is_awaited(3, 3 * LOOK_SECONDS, answering=False)


def test_they_wait_for_those_who_are_being_answered() -> None:
    company = Company()
    company.wait(1, 0.0)
    assert company.is_awaited(1, LOOK_SECONDS, answering=True)
    assert not company.is_awaited(1, 2 * LOOK_SECONDS, answering=False)


def test_a_late_look_does_not_end_the_wait() -> None:
    company = Company()
    company.wait(1, 0.0)
    assert company.is_awaited(1, LATE_SECONDS + LOOK_SECONDS, answering=False)
    assert not company.is_awaited(1, LATE_SECONDS + 2 * LOOK_SECONDS, answering=False)


def test_nobody_waits_longer_than_the_bound_whoever_comes() -> None:
    company = Company()
    company.wait(1, 0.0)
    looks = [company.is_awaited(place, place * LOOK_SECONDS, answering=True) for place in range(1, 20)]
    assert looks.index(False) + 1 == pytest.approx(LONGEST_SECONDS / LOOK_SECONDS)
