from __future__ import annotations

from datetime import timedelta

import pytest

from agent_client import errors
from agent_client.balancer import Attempt, Balancer
from agent_client.failover import Course, combined, counts_against, share

AWAY = errors.IssuerUnavailable("cannot be reached")
IMPOSTOR = errors.IssuerNotTrusted("did not prove to be the issuer")
LATE = errors.IssuerTimedOut("no answer")


class Call:
    """A call whose attempts all end as the test says, with a clock that only the test moves."""

    def __init__(self, *addresses: str, seconds: float = 10.0) -> None:
        self.balancer = Balancer(addresses, jitter=lambda: 1.0)
        self.course = Course(self.balancer, seconds)
        self.now = 0.0

    def attempt(self, failure: errors.IssuerRequestError, takes: float = 0.0) -> tuple[str, float | None]:
        attempt = Attempt()
        self.course.begin(attempt, self.now)
        self.now += takes
        if counts_against(failure, attempt.seconds):
            self.balancer.failed(attempt, self.now)
        self.balancer.end(attempt)
        return attempt.address, self.course.pause_after(attempt, failure, self.now)


def test_the_next_address_is_tried_at_once() -> None:
    call = Call("a", "b", "c")
    assert [call.attempt(AWAY), call.attempt(IMPOSTOR)] == [("a", 0.0), ("b", 0.0)]


def test_there_is_a_pause_when_every_address_has_failed() -> None:
    call = Call("a", "b")
    call.attempt(AWAY)
    address, pause = call.attempt(AWAY)
    assert address == "b"
    assert pause is not None
    assert pause > 0
    assert {call.attempt(AWAY)[0], call.attempt(AWAY)[0]} == {"a", "b"}


def test_one_address_has_all_the_time_and_is_not_asked_again_when_it_used_it_up() -> None:
    call = Call("a")
    assert call.attempt(LATE, takes=10.0) == ("a", None)


@pytest.mark.parametrize(
    "failure", [errors.AccessDenied("no"), errors.IssuerFault("broke"), errors.AnswerRejected("odd")]
)
def test_what_is_not_about_the_address_is_final(failure: errors.IssuerRequestError) -> None:
    call = Call("a", "b")
    assert call.attempt(failure) == ("a", None)
    assert call.course.verdict(failure) is failure


def test_who_is_not_the_issuer_is_not_asked_again_where_there_is_nobody_else() -> None:
    assert Call("a").attempt(IMPOSTOR) == ("a", None)
    call = Call("a", "b")
    assert [call.attempt(IMPOSTOR), call.attempt(IMPOSTOR)] == [("a", 0.0), ("b", None)]


def test_an_address_that_is_away_may_come_back_beside_an_impostor() -> None:
    call = Call("a", "b")
    call.attempt(AWAY)
    assert call.attempt(IMPOSTOR)[1] is not None


def test_a_limit_is_waited_for_and_not_evaded_at_another_address() -> None:
    call = Call("a", "b")
    _, pause = call.attempt(errors.LimitExceeded("slow down", retry_after=timedelta(seconds=4)))
    assert pause is not None
    assert pause > 4
    assert call.attempt(errors.LimitExceeded("too much"))[1] is None


def test_an_issuer_that_asks_to_be_left_alone_is_while_another_is_asked() -> None:
    call = Call("a", "b", seconds=100.0)
    call.attempt(errors.IssuerUnavailable("full", retry_after=timedelta(seconds=5)))
    asked = []
    while call.now < 4.0:
        address, pause = call.attempt(AWAY)
        asked.append(address)
        call.now += pause or 0.0
    assert set(asked) == {"b"}
    call.now = 5.0
    assert {call.attempt(AWAY)[0] for _ in range(3)} == {"a", "b"}


def test_issuers_that_all_ask_to_be_left_alone_past_the_deadline_are() -> None:
    call = Call("a", "b", seconds=10.0)
    full = errors.IssuerUnavailable("full", retry_after=timedelta(seconds=20))
    assert [call.attempt(full)[1], call.attempt(full)[1]] == [0.0, None]


def test_no_attempt_begins_after_the_deadline() -> None:
    call = Call("a", "b", seconds=10.0)
    assert call.attempt(AWAY, takes=10.0) == ("a", None)


def test_addresses_that_never_answer_leave_time_for_the_last() -> None:
    call = Call("a", "b", "c", seconds=9.0)
    seconds = []
    for _ in range(3):
        attempt = Attempt()
        call.course.begin(attempt, call.now)
        seconds.append(attempt.seconds)
        call.now += attempt.seconds
        call.balancer.failed(attempt, call.now)
        call.course.pause_after(attempt, LATE, call.now)
    assert seconds == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("left", "ready", "failed", "seconds"),
    [
        (10.0, 0, 0, 10.0),
        (10.0, 1, 0, 3.0),
        (4.0, 1, 0, 2.0),
        (1.5, 1, 0, 1.0),
        (0.5, 15, 0, 0.5),
        (60.0, 2, 0, 3.0),
        (10.0, 0, 1, 7.5),
        (-1.0, 1, 0, -1.0),
    ],
)
def test_an_attempt_gets_a_share_while_others_remain(left: float, ready: int, failed: int, seconds: float) -> None:
    assert share(left, ready=ready, failed=failed) == seconds


def test_a_short_deadline_says_nothing_about_an_address() -> None:
    assert not counts_against(LATE, 0.9)
    assert counts_against(LATE, 1.0)
    assert counts_against(AWAY, 0.1)
    assert not counts_against(errors.AccessDenied("no"), 5.0)


def test_the_error_that_helps_most_is_raised_and_names_every_address() -> None:
    call = Call("a:1", "b:1", "c:1", seconds=1.0)
    for failure in (AWAY, IMPOSTOR, LATE):
        call.attempt(failure)
    error = call.course.verdict(LATE)
    assert type(error) is errors.IssuerNotTrusted
    assert error.message.startswith("all 3 addresses of the issuer failed: ")
    for part in ("a:1: cannot be reached", "b:1: did not prove", "c:1: no answer"):
        assert part in error.message


def test_the_text_says_how_many_were_tried() -> None:
    assert combined({"a": AWAY}, 3).message.startswith("1 of 3 addresses")


def test_a_reason_of_the_issuer_helps_more_than_silence() -> None:
    said = errors.IssuerUnavailable("signer", reason="SIGNER_UNAVAILABLE", request_id="r-1", address="b")
    error = combined({"a": LATE, "b": said, "c": AWAY}, 3)
    assert (error.reason, error.request_id, error.address) == ("SIGNER_UNAVAILABLE", "r-1", "b")
    assert type(error) is errors.IssuerUnavailable


def test_one_address_has_its_own_error() -> None:
    call = Call("a")
    call.attempt(AWAY)
    assert call.course.verdict(AWAY) is AWAY
