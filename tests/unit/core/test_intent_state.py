"""The life of an intent: who may do what to it, and that no order of things gives more tokens than it is good for."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.intents import MINUTES, SCHEDULER, WORKER, registration

from issuer.core.approval_state import Refusal
from issuer.core.errors import Reason
from issuer.core.intent_state import RegisteredIntent, Status, Step, StepKind, apply, begin, name_of
from issuer.core.intent_steps import registration_from_text, registration_text, step_from_text, step_text

STRANGER = "spiffe://prod.example/ns/other/sa/other"
OPERATOR = "spiffe://prod.example/ns/sre/sa/oncall"
REGISTERED = registration(created=0, not_before=10 * MINUTES, expires_at=60 * MINUTES)
DURING = 20 * MINUTES
USE, EXPIRE = Step(StepKind.USE, WORKER, decision="d1"), Step(StepKind.EXPIRE, "")


def intent(uses: int = 1) -> RegisteredIntent:
    return begin(registration(created=0, not_before=10 * MINUTES, expires_at=60 * MINUTES, uses=uses))


def after(known: RegisteredIntent, *steps: Step, now: int = DURING) -> RegisteredIntent:
    for step in steps:
        answered = apply(known, step, now)
        assert isinstance(answered, RegisteredIntent), answered
        known = answered
    return known


def refusal(known: RegisteredIntent, step: Step, now: int = DURING) -> Reason:
    answered = apply(known, step, now)
    assert isinstance(answered, Refusal), answered
    return answered.reason


class TestRedeeming:
    def test_its_consumer_redeems_it_once(self) -> None:
        redeemed = after(intent(), USE)
        assert (redeemed.status, redeemed.uses_left, redeemed.number) == (Status.REDEEMED, 0, 2)
        assert (redeemed.decisions, redeemed.ended_at) == (("d1",), DURING)
        assert refusal(redeemed, USE) is Reason.INTENT_NOT_OPEN

    def test_each_use_counts(self) -> None:
        used = after(intent(uses=3), USE, USE)
        assert (used.status, used.uses_left, used.number) == (Status.REGISTERED, 1, 3)
        assert after(used, USE).status is Status.REDEEMED

    @pytest.mark.parametrize(
        "by", [SCHEDULER, STRANGER, OPERATOR, f"{WORKER}/2", "", "spiffe://other.example/ns/batch/sa/worker"]
    )
    def test_nobody_else_does(self, by: str) -> None:
        assert refusal(intent(), Step(StepKind.USE, by, operator=True)) is Reason.INTENT_NOT_YOURS

    def test_it_is_not_redeemed_before_its_window_nor_after(self) -> None:
        assert refusal(intent(), USE, 10 * MINUTES - 1) is Reason.INTENT_NOT_YET
        after(intent(), USE, now=10 * MINUTES)
        after(intent(), USE, now=60 * MINUTES - 1)
        assert refusal(intent(), USE, 60 * MINUTES) is Reason.INTENT_NOT_OPEN
        assert intent().status_at(60 * MINUTES) is Status.EXPIRED


class TestTakingBack:
    @pytest.mark.parametrize("step", [Step(StepKind.CANCEL, SCHEDULER), Step(StepKind.CANCEL, OPERATOR, operator=True)])
    def test_who_registered_it_takes_it_back_and_so_does_an_operator(self, step: Step) -> None:
        for now in (0, DURING):  # before its window, too
            cancelled = after(intent(uses=2), step._replace(why="a mistake"), now=now)
            assert (cancelled.status, cancelled.ended_by, cancelled.ended_why) == (
                Status.CANCELLED,
                step.by,
                "a mistake",
            )
            assert refusal(cancelled, USE) is Reason.INTENT_NOT_OPEN

    @pytest.mark.parametrize("by", [WORKER, STRANGER])
    def test_nobody_else_does(self, by: str) -> None:
        assert refusal(intent(), Step(StepKind.CANCEL, by)) is Reason.INTENT_NOT_YOURS

    def test_what_is_over_is_not_taken_back(self) -> None:
        cancel = Step(StepKind.CANCEL, SCHEDULER)
        assert refusal(intent(), cancel, 60 * MINUTES) is Reason.INTENT_NOT_OPEN
        assert refusal(after(intent(), USE), cancel) is Reason.INTENT_NOT_OPEN


class TestExpiring:
    def test_it_is_told_once_and_not_before_it_is_so(self) -> None:
        assert refusal(intent(), EXPIRE, 60 * MINUTES - 1) is Reason.INTENT_NOT_OPEN
        expired = after(intent(uses=3), USE)
        expired = after(expired, EXPIRE, now=60 * MINUTES)
        assert (expired.status, expired.uses_left) == (Status.EXPIRED, 2)
        assert refusal(expired, EXPIRE, 61 * MINUTES) is Reason.INTENT_NOT_OPEN

    def test_what_was_used_up_or_taken_back_does_not_expire(self) -> None:
        for ended in (after(intent(), USE), after(intent(), Step(StepKind.CANCEL, SCHEDULER))):
            assert refusal(ended, EXPIRE, 61 * MINUTES) is Reason.INTENT_NOT_OPEN


STEPS = st.builds(
    Step,
    kind=st.sampled_from(StepKind),
    by=st.sampled_from([SCHEDULER, WORKER, STRANGER, OPERATOR, ""]),
    operator=st.booleans(),
    decision=st.sampled_from(["a", "b"]),
)


class Life(RuleBasedStateMachine):
    """Anybody does anything at any time; what must never be, never is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.intent = intent(uses=2)
        self.uses = 0
        self.over: Status | None = None

    @rule(time=st.sampled_from([0, 1, 9 * MINUTES, 30 * MINUTES]))
    def time_passes(self, time: int) -> None:
        self.now += time

    @rule(step=STEPS)
    def somebody_does_something(self, step: Step) -> None:
        answered = apply(self.intent, step, self.now)
        if isinstance(answered, Refusal):
            return
        assert answered.number == self.intent.number + 1
        assert self.over is None or (step.kind is StepKind.EXPIRE and self.over is Status.EXPIRED)
        if step.kind is StepKind.USE:
            self.uses += 1
            assert step.by == WORKER
            assert 10 * MINUTES <= self.now < 60 * MINUTES
        elif step.kind is StepKind.CANCEL:
            assert step.operator or step.by == SCHEDULER
        self.intent = answered

    @precondition(lambda self: self.intent.status_at(self.now) is Status.REGISTERED)
    @rule()
    def its_consumer_redeems_it(self) -> None:
        self.somebody_does_something(USE)

    @invariant()
    def no_more_uses_than_allowed(self) -> None:
        assert self.uses == len(self.intent.decisions) <= 2
        if self.intent.status is Status.REGISTERED:
            assert self.intent.uses_left == 2 - self.uses

    @invariant()
    def what_is_over_stays_over(self) -> None:
        status = self.intent.status_at(self.now)
        assert self.over in (None, status)
        if status is not Status.REGISTERED:
            self.over = status
            assert isinstance(apply(self.intent, USE, self.now), Refusal)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_a_registration_and_its_steps_read_back_as_they_were() -> None:
    assert registration_from_text(registration_text(REGISTERED)) == REGISTERED
    for step in (USE, EXPIRE, Step(StepKind.CANCEL, OPERATOR, "why", operator=True)):
        assert step_from_text(step_text(step), step.by) == step
    assert step_text(USE) == '{"decision":"d1","kind":"use"}', "as the claim of a decision spells it"


def test_an_intent_has_a_name() -> None:
    assert name_of(begin(REGISTERED)) == f"intents/{REGISTERED.id}"
