"""How many refusals of a caller are recorded one by one."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from issuer.core.caller import Caller
from issuer.core.errors import Reason
from issuer.core.ledger_entries import REFUSALS_COUNTED
from issuer.core.record import record_failure
from issuer.core.refusal_budget import (
    COUNT_EVERY_SECONDS,
    COUNTED_TO_RECORDED,
    MAX_KINDS,
    PERIOD_SECONDS,
    Keeping,
    Kind,
    RefusalBudget,
    Verdict,
)
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import TokenRequest

CALLER = "spiffe://prod.example/refused"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
RECORDED, COUNTED, LIMITED = Keeping.RECORDED, Keeping.COUNTED, Keeping.LIMITED


def kind(number: int = 0) -> Kind:
    return Kind("https://api.example", f"scope.{number}", "", "SCOPE_NOT_ALLOWED")


def refuse(budget: RefusalBudget, name: str, now: float = 0.0, number: int = 0, caller: str = CALLER) -> Verdict:
    plan = budget.plan(caller, now)
    verdict = plan.judge(kind(number), name)
    plan.settle()
    return verdict


def spent(recorded: int = 10) -> RefusalBudget:
    """A budget of which nothing is left."""
    budget = RefusalBudget(recorded)
    for number in range(recorded):
        assert refuse(budget, f"d{number}", number=number) == (RECORDED, f"d{number}")
    return budget


def test_within_the_budget_each_refusal_is_recorded() -> None:
    spent()


def test_past_it_one_of_each_kind_is_recorded_and_stands_for_the_others() -> None:
    budget = spent()
    assert refuse(budget, "first") == (RECORDED, "first")
    assert refuse(budget, "second") == (COUNTED, "first")
    assert refuse(budget, "other", number=1) == (RECORDED, "other")
    assert refuse(budget, "third") == (COUNTED, "first")


def test_counts_become_one_event_a_caller_and_begin_anew() -> None:
    budget = spent()
    for _ in range(4):
        refuse(budget, "first")
    [event] = budget.take_counts(7)
    assert (event.kind, event.time, event.actor) == (REFUSALS_COUNTED, 7, CALLER)
    assert json.loads(event.detail) == {
        "refusals": [{**kind()._asdict(), "decision": "first", "count": 3}],
        "told_to_wait": 0,
    }
    assert budget.take_counts(8) == []
    assert refuse(budget, "anew") == (RECORDED, "anew")


def test_past_what_is_counted_the_caller_is_told_to_wait() -> None:
    budget = spent()
    verdicts = Counter(refuse(budget, "x").keeping for _ in range(10 * COUNTED_TO_RECORDED + 6))
    assert verdicts == {RECORDED: 1, COUNTED: 10 * COUNTED_TO_RECORDED, LIMITED: 5}
    [event] = budget.take_counts(0)
    assert json.loads(event.detail)["told_to_wait"] == 5


def test_who_tries_things_out_is_told_to_wait() -> None:
    budget = spent()
    verdicts = [refuse(budget, "x", number=number).keeping for number in range(MAX_KINDS + 3)]
    assert verdicts == [RECORDED] * MAX_KINDS + [LIMITED] * 3
    [event] = budget.take_counts(0)
    assert json.loads(event.detail) == {"refusals": [], "told_to_wait": 3}


def test_a_budget_fills_up_again_but_not_over() -> None:
    budget = spent()
    assert refuse(budget, "half", PERIOD_SECONDS / 2) == (RECORDED, "half")
    verdicts = [refuse(budget, "x", PERIOD_SECONDS / 2, number=1).keeping for _ in range(6)]
    assert verdicts == [RECORDED] * 5 + [COUNTED]
    much_later = [refuse(budget, "x", PERIOD_SECONDS * 100, number=1).keeping for _ in range(12)]
    assert much_later == [RECORDED] * 10 + [COUNTED] * 2


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = spent()
    refuse(budget, "first", -1000.0)
    assert refuse(budget, "second", -1000.0).keeping is COUNTED


def test_the_refusals_of_a_batch_see_each_other_and_count_only_when_settled() -> None:
    budget = spent()
    plan = budget.plan(CALLER, 0.0)
    names = [plan.judge(kind(), f"d{number}") for number in range(3)]
    assert names == [(RECORDED, "d0"), (COUNTED, "d0"), (COUNTED, "d0")]
    assert refuse(budget, "meanwhile") == (RECORDED, "meanwhile")  # the ledger might have failed for the batch
    plan.settle()
    assert refuse(budget, "later") == (COUNTED, "meanwhile")
    assert json.loads(budget.take_counts(0)[0].detail)["refusals"][0]["count"] == 3


def test_what_was_counted_while_counts_were_written_is_not_lost() -> None:
    budget = spent()
    refuse(budget, "first")
    plan = budget.plan(CALLER, 0.0)
    assert plan.judge(kind(), "x") == (COUNTED, "first")
    assert budget.take_counts(0) == []
    plan.settle()
    assert json.loads(budget.take_counts(0)[0].detail) == {"refusals": [], "told_to_wait": 1}


def test_calls_at_the_same_time_do_not_make_more_kinds_than_may_be() -> None:
    budget = spent()
    plans = [budget.plan(CALLER, 0.0) for _ in range(2)]
    for number, plan in enumerate(plans):
        for each in range(MAX_KINDS):
            plan.judge(kind(number * 100 + each), f"d{number}.{each}")
    for plan in plans:
        plan.settle()
    assert refuse(budget, "x", number=0).keeping is COUNTED
    assert refuse(budget, "x", number=100).keeping is LIMITED


def test_one_callers_budget_is_not_anothers() -> None:
    budget = spent()
    refuse(budget, "first")
    assert refuse(budget, "x", caller="spiffe://prod.example/other").keeping is RECORDED


def test_callers_are_forgotten_when_there_are_too_many_and_those_with_counts_last() -> None:
    budget = RefusalBudget(1, callers=3)
    for _ in range(3):
        refuse(budget, "x")
    for number in range(100):
        refuse(budget, "x", caller=f"spiffe://prod.example/{number}")
        assert budget.remembered <= 3
    assert refuse(budget, "x").keeping is COUNTED


def test_when_all_have_counts_who_was_refused_longest_ago_is_forgotten() -> None:
    budget = RefusalBudget(1, callers=2)
    for caller in ("one", "two", "three"):
        for _ in range(3):
            refuse(budget, "x", caller=caller)
    assert [event.actor for event in budget.take_counts(0)] == ["two", "three"]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 3)), max_size=300),
    st.integers(1, 20),
)
def test_a_caller_never_gets_more_recorded_than_its_budget_and_its_kinds(
    refusals: list[tuple[int, float]], recorded: int
) -> None:
    budget, now, rows, flushed = RefusalBudget(recorded), 0.0, 0, 0
    for number, passed in refusals:
        now += passed
        if now // COUNT_EVERY_SECONDS > flushed:
            flushed = int(now // COUNT_EVERY_SECONDS)
            rows += len(budget.take_counts(0))
        rows += refuse(budget, "x", now, number).keeping is RECORDED
    assert rows <= recorded * (1 + now / PERIOD_SECONDS) + (MAX_KINDS + 1) * (1 + now // COUNT_EVERY_SECONDS) + 1


def test_refusals_are_alike_that_ask_for_the_same_and_fail_alike() -> None:
    caller = Caller(SpiffeId.parse(CALLER), b"0" * 32, 1, NOW)
    request = TokenRequest("https://api.example", ("a", "b"), application="billing")
    record = record_failure(
        Reason.FACT_MISSING, decision_id=str(UUID(int=1)), caller=caller, peer="x", request=request, now=NOW
    )
    assert Kind.of(record) == ("https://api.example", "a b", "billing", "FACT_MISSING")
