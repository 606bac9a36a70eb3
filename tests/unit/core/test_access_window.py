"""The life of a window of access: who may do what to it, and that nothing brings back what is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.windows import HOUR, MINUTE, OPERATOR, SETTLER, opening

from issuer.core.access_text import opening_from_text, opening_text, step_from_text, step_text
from issuer.core.access_window import BY_TIME, AccessWindow, Status, Step, StepKind, apply, begin, name_of
from issuer.core.approval_request import Need
from issuer.core.approval_state import Refusal
from issuer.core.errors import Reason

STRANGER = "spiffe://prod.example/other"
COMPLETE = Step(StepKind.END, SETTLER, Status.COMPLETED)


def end(status: Status, by: str = "") -> Step:
    return Step(StepKind.END, by, status, "why", ("r",))


def after(window: AccessWindow, *steps: Step, now: int = MINUTE) -> AccessWindow:
    for step in steps:
        answered = apply(window, step, now)
        assert isinstance(answered, AccessWindow), answered
        window = answered
    return window


def refusal(window: AccessWindow, step: Step, now: int = MINUTE) -> Reason:
    answered = apply(window, step, now)
    assert isinstance(answered, Refusal), answered
    return answered.reason


def test_it_is_open_until_its_end_and_not_at_it() -> None:
    window = begin(opening(until=10 * MINUTE))
    assert window.status_at(10 * MINUTE - 1) is Status.OPEN
    assert window.status_at(10 * MINUTE) is Status.EXPIRED
    assert name_of(window) == f"accessWindows/{window.id}"


def test_it_is_over_when_the_svid_ends_and_no_newer_one_was_seen() -> None:
    window = begin(opening(svid_until=5 * MINUTE))
    assert window.status_at(5 * MINUTE) is Status.SVID_EXPIRED
    assert refusal(window, Step(StepKind.SEEN, SETTLER, svid_until=HOUR), now=5 * MINUTE) is Reason.ACCESS_ENDED
    seen = after(window, Step(StepKind.SEEN, SETTLER, svid_until=8 * MINUTE), now=5 * MINUTE - 1)
    assert seen.status_at(8 * MINUTE - 1) is Status.OPEN
    assert seen.closes_at == 8 * MINUTE


def test_a_newer_svid_never_moves_its_own_end_nor_an_older_one_the_end_of_the_svid() -> None:
    window = after(begin(opening(until=HOUR)), Step(StepKind.SEEN, SETTLER, svid_until=9 * HOUR))
    assert window.closes_at == HOUR
    assert after(window, Step(StepKind.SEEN, SETTLER, svid_until=1)).svid_until == 9 * HOUR


def test_another_is_not_seen_in_its_place_and_does_not_complete_it() -> None:
    for step in (Step(StepKind.SEEN, STRANGER, svid_until=HOUR), replaced(COMPLETE, by=STRANGER)):
        assert refusal(begin(opening()), step) is Reason.ACCESS_UNKNOWN


def replaced(step: Step, **changes: str) -> Step:
    return step._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.ENDED, Status.REFUSED, Status.REVOKED])
def test_an_end_stays_as_it_was_made(status: Status) -> None:
    ended = after(begin(opening()), end(status, SETTLER))
    assert (ended.status_at(HOUR * 99), ended.ended_at, ended.ended_by) == (status, MINUTE, SETTLER)
    assert (ended.ended_why, ended.ended_rules, ended.number) == ("why", ("r",), 2)
    for step in (COMPLETE, end(Status.REVOKED), Step(StepKind.SEEN, SETTLER, svid_until=HOUR)):
        assert refusal(ended, step) is Reason.ACCESS_ENDED


def test_only_time_ends_by_time_and_nothing_else_ends_what_time_did() -> None:
    window = begin(opening(until=10 * MINUTE, svid_until=20 * MINUTE))
    for status in BY_TIME:
        assert refusal(window, end(status)) is Reason.REQUEST_INVALID
    for status in (Status.COMPLETED, Status.REVOKED, Status.SVID_EXPIRED):
        assert refusal(window, end(status, SETTLER), now=10 * MINUTE) is Reason.ACCESS_ENDED
    assert after(window, end(Status.EXPIRED), now=10 * MINUTE).ended is Status.EXPIRED


@pytest.mark.parametrize("status", [None, Status.OPEN])
def test_an_end_says_which(status: Status | None) -> None:
    assert refusal(begin(opening()), Step(StepKind.END, OPERATOR, status)) is Reason.REQUEST_INVALID


STEPS = st.builds(
    Step,
    kind=st.sampled_from(StepKind),
    by=st.sampled_from([SETTLER, STRANGER, OPERATOR, ""]),
    end=st.none() | st.sampled_from(Status),
    svid_until=st.integers(0, 3 * HOUR),
)


class Life(RuleBasedStateMachine):
    """Anybody does anything at any time; what must never be, never is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.window = begin(opening(until=HOUR, svid_until=20 * MINUTE))
        self.over: Status | None = None

    @rule(time=st.sampled_from([0, 1, MINUTE, 19 * MINUTE]))
    def time_passes(self, time: int) -> None:
        self.now += time

    @rule(step=STEPS)
    def somebody_does_something(self, step: Step) -> None:
        answered = apply(self.window, step, self.now)
        if isinstance(answered, Refusal):
            return
        assert answered.number == self.window.number + 1
        assert self.over is None or step.end is self.over, f"{step} changed what was {self.over}"
        assert answered.svid_until >= self.window.svid_until
        self.window = answered

    @precondition(lambda self: self.window.is_open(self.now))
    @rule()
    def its_caller_is_seen_with_a_newer_svid(self) -> None:
        self.somebody_does_something(Step(StepKind.SEEN, SETTLER, svid_until=self.now + 20 * MINUTE))

    @invariant()
    def it_never_outlives_what_was_granted(self) -> None:
        assert self.window.opening == opening(until=HOUR, svid_until=20 * MINUTE)
        assert not (self.window.is_open(self.now) and self.now >= HOUR)
        assert self.window.closes_at <= HOUR

    @invariant()
    def what_is_over_stays_over(self) -> None:
        status = self.window.status_at(self.now)
        assert self.over in (None, status)
        if status is not Status.OPEN:
            self.over = status


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_an_opening_and_its_steps_read_back_as_they_were() -> None:
    need = Need("refund", "critical", ("spiffe://people.example/*",), 2, MINUTE, 1)
    approved = replace(opening(), approval='{"id":"a"}', needs=(need,), ttl=None)
    assert opening_from_text(opening_text(approved)) == approved
    for step in (Step(StepKind.SEEN, SETTLER, svid_until=7), end(Status.REFUSED), COMPLETE):
        assert step_from_text(step_text(step), step.by) == step
