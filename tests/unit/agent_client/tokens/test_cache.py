from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.kept_tokens import (
    AUDIENCE,
    READER,
    REQUEST,
    SETTLER,
    SETTLER_ROTATED,
    Flight,
    Keeper,
    arrival,
    fail,
    fetch,
    request_number,
    token,
)

from agent_client.errors import (
    AccessEnded,
    AnswerRejected,
    ApprovalRequired,
    IssuerFault,
    IssuerNotTrusted,
    IssuerTimedOut,
    IssuerUnavailable,
    LimitExceeded,
    PolicyDenied,
)
from agent_client.requests import Intent, TokenRequest
from agent_client.tokens.cache import NEVER, REFUSALS_APART, TokenCache
from agent_client.tokens.renewal import EARLIEST, LATEST, LONGEST_PAUSE
from agent_client.workload_api_errors import WorkloadApiUnavailable

if TYPE_CHECKING:
    from agent_client.tokens.entry import Entry

DENIED = PolicyDenied("no", decision_id="d")
AWAY = IssuerUnavailable("away")
ONE_TIME = TokenRequest(AUDIENCE, ["ledger.read"], intent=Intent(ticket="CHG-1"))


@pytest.fixture
def cache() -> TokenCache[Flight]:
    return TokenCache()


@pytest.fixture
def entry(cache: TokenCache[Flight]) -> Entry[Flight]:
    return cache.entry(REQUEST)


def plan_of(cache: TokenCache[Flight]) -> int:
    return len(cache._plan)


def renewed_at(cache: TokenCache[Flight]) -> float:
    """The one time at which something is planned."""
    assert plan_of(cache) == 1
    return cache.next_due()


# --- Entries


def test_those_who_ask_for_the_same_share_an_entry(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    assert cache.entry(TokenRequest(AUDIENCE, ("ledger.read",))) is entry


@pytest.mark.parametrize(
    "other",
    [
        TokenRequest(AUDIENCE + "/", ["ledger.read"]),
        TokenRequest(AUDIENCE, ["ledger.read", "ledger.write"]),
        TokenRequest(AUDIENCE, ["ledger.read"], ttl=timedelta(seconds=60)),
        TokenRequest(AUDIENCE, ["ledger.read"], application="payments"),
        TokenRequest(AUDIENCE, ["ledger.read"], bind_certificate=True),
        TokenRequest(AUDIENCE, ["ledger.read"], allow_partial=True),
        ONE_TIME,
    ],
)
def test_whatever_makes_another_token_has_an_entry_of_its_own(
    cache: TokenCache[Flight], entry: Entry[Flight], other: TokenRequest
) -> None:
    assert cache.entry(other) is not entry


def test_a_request_that_brings_no_token_has_no_entry(cache: TokenCache[Flight]) -> None:
    with pytest.raises(ValueError, match="validate_only"):
        cache.entry(TokenRequest(AUDIENCE, ["ledger.read"], validate_only=True))


# --- What an asker gets


def test_the_first_asker_makes_the_call_and_the_others_wait_for_it(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    assert cache.look(entry, 0.0) is None
    flight = Flight()
    cache.take_off(entry, flight)
    assert cache.look(entry, 0.0) is flight
    assert cache.flights() == [flight]
    issued = token()
    assert cache.arrived(entry, arrival(issued, 0.0), SETTLER, 0.1)
    assert cache.flights() == []
    assert cache.look(entry, 0.2) is issued


def test_a_token_is_handed_out_until_its_end_and_not_at_it(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    issued = fetch(cache, entry, 1000.0, lifetime=300.0)
    assert cache.look(entry, 1299.99) is issued
    assert cache.look(entry, 1300.0) is None


def test_a_token_is_handed_out_while_its_renewal_is_under_way(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    issued = fetch(cache, entry)
    cache.take_off(entry, Flight())
    assert entry.fresh_until == entry.good_until == 300.0
    assert cache.look(entry, 299.9) is issued
    assert isinstance(cache.look(entry, 300.0), Flight)


def test_its_time_counts_from_when_it_was_asked_for(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    cache.take_off(entry, Flight())
    assert cache.arrived(entry, arrival(token(300.0), 1000.0), SETTLER, 1100.0)
    assert entry.good_until == 1300.0


@pytest.mark.parametrize(("now", "usable"), [(299.9, True), (300.0, False), (1e6, False)])
def test_a_token_that_ended_on_its_way_is_not_handed_out(
    cache: TokenCache[Flight], entry: Entry[Flight], now: float, *, usable: bool
) -> None:
    """The host was suspended during the call, or the call took longer than the token lives."""
    cache.take_off(entry, Flight())
    assert cache.arrived(entry, arrival(token(300.0), 0.0), SETTLER, now) is usable
    assert (entry.good is not None) is usable
    assert entry.flight is None


def test_what_was_abandoned_is_asked_for_anew(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    cache.take_off(entry, Flight())
    cache.abandoned(entry, 0.0)
    assert cache.look(entry, 0.0) is None
    assert cache.next_due() == NEVER


# --- Renewal


def test_what_was_used_since_is_renewed_in_time(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fetch(cache, entry, advised=60.0)
    at = renewed_at(cache)
    assert 60 * EARLIEST <= at <= 60 * LATEST
    assert entry.fresh_until == at
    cache.look(entry, 1.0)
    assert cache.due(at - 0.001) is None
    assert cache.due(at) is entry
    assert cache.due(at) is None
    assert cache.next_due() == NEVER


def test_what_nobody_used_since_lapses_and_is_renewed_with_its_next_use(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    issued = fetch(cache, entry)
    assert cache.due(100.0) is None
    assert cache.next_due() == NEVER
    assert cache.look(entry, 200.0) is issued
    assert cache.next_due() == 200.0
    assert cache.due(200.0) is entry


def test_what_is_kept_fresh_is_renewed_though_nobody_uses_it(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    fetch(cache, entry)
    assert cache.due(100.0) is entry


def test_what_an_intent_paid_for_is_handed_out_and_never_renewed(cache: TokenCache[Flight]) -> None:
    entry = cache.entry(ONE_TIME)
    keeper = Keeper()
    entry.keepers.add(keeper)
    issued = fetch(cache, entry)
    assert cache.look(entry, 299.0) is issued
    fail(cache, entry, AWAY, 299.0)
    cache.take_off(entry, Flight())
    cache.abandoned(entry, 299.0)
    cache.caller_changed(READER, 299.0)
    assert cache.next_due() == NEVER


def test_an_entry_with_a_call_under_way_is_not_due(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fetch(cache, entry)
    cache.look(entry, 1.0)
    cache.take_off(entry, Flight())
    entry.used = True
    assert cache.due(100.0) is None
    entry.due_at = 200.0
    cache._plan_for(entry, 200.0)
    assert cache.due(200.0) is None


def test_looking_often_plans_nothing_more(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fetch(cache, entry)
    cache.due(100.0)
    for step in range(1000):
        cache.look(entry, 100.0 + step / 10)
    assert plan_of(cache) == 1


def test_what_is_planned_is_bounded_by_the_entries_however_often_it_changes(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    for step in range(1000):
        now = step * REFUSALS_APART
        cache.invalidate(entry, fetch(cache, entry, now, lifetime=86_400.0, advised=43_200.0), now)
    assert plan_of(cache) <= 64 + 2
    at = entry.due_at
    assert at is not None
    entry.used = True
    assert cache.due(at) is entry


def test_a_renewal_may_take_less_time_the_less_its_token_has_left(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    assert cache.patience(entry, 10.0, 0.0) == 10.0
    fetch(cache, entry)
    assert cache.patience(entry, 10.0, 260.0) == 5.0


# --- Failures


@pytest.mark.parametrize("refusal", [DENIED, ApprovalRequired("wait"), AnswerRejected("odd"), IssuerFault("bug")])
def test_a_refusal_is_not_asked_again_before_its_time(
    cache: TokenCache[Flight], entry: Entry[Flight], refusal: Exception
) -> None:
    fail(cache, entry, refusal, 100.0)
    assert 100.5 <= entry.refused_until <= 101.0
    for now in (100.0, entry.refused_until - 0.001):
        with pytest.raises(type(refusal)) as again:
            cache.look(entry, now)
        assert again.value is not refusal
    assert cache.look(entry, entry.refused_until) is None


def test_what_is_kept_of_a_failure_holds_on_to_nobody(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    denied = PolicyDenied("no")
    denied.__cause__ = OSError("with a trace")
    fail(cache, entry, denied, 0.0)
    assert entry.failure is not None
    assert entry.failure is not denied
    assert entry.failure.__cause__ is None


def test_refusals_one_after_the_other_are_asked_ever_less_often(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    now, attempts = 0.0, 0
    while now < 3600:
        assert cache.look(entry, now) is None
        fail(cache, entry, DENIED, now)
        now, attempts = entry.refused_until, attempts + 1
    assert attempts <= 6 + 3600 / (LONGEST_PAUSE / 2)
    assert plan_of(cache) <= 66


@pytest.mark.parametrize("error", [AWAY, IssuerTimedOut("late"), IssuerNotTrusted("who"), WorkloadApiUnavailable("no")])
def test_what_was_no_answer_is_asked_again_by_the_next_asker(
    cache: TokenCache[Flight], entry: Entry[Flight], error: Exception
) -> None:
    fail(cache, entry, error, 100.0)
    assert cache.look(entry, 100.0) is None
    assert cache.next_due() == NEVER


@pytest.mark.parametrize("kind", [LimitExceeded, IssuerUnavailable])
def test_nobody_asks_before_the_time_that_the_issuer_named(
    cache: TokenCache[Flight], entry: Entry[Flight], kind: type[LimitExceeded]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    fail(cache, entry, kind("slow down", retry_after=timedelta(minutes=5)), 100.0)
    with pytest.raises(kind):
        cache.look(entry, 399.9)
    assert cache.due(399.9) is None
    assert cache.look(entry, 400.0) is None
    assert cache.due(400.0 + LONGEST_PAUSE) is entry


def test_a_renewal_minds_the_time_that_the_issuer_named_and_keeps_the_token(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    issued = fetch(cache, entry)
    fail(cache, entry, LimitExceeded("slow down", retry_after=timedelta(minutes=2)), 50.0)
    for now in range(50, 170):
        assert cache.look(entry, now) is issued
        assert cache.due(now) is None
    assert cache.due(171.0) is entry


def test_a_renewal_that_fails_keeps_the_token_to_its_end(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    issued = fetch(cache, entry)
    now, attempts = 60.0, 0
    while now < 300:
        assert cache.look(entry, now) is issued
        fail(cache, entry, AWAY if attempts % 2 else DENIED, now)
        assert entry.due_at is not None
        assert entry.due_at - now <= max((300 - now) / 8, 1.0)
        now, attempts = entry.due_at, attempts + 1
    assert attempts >= 10
    fail(cache, entry, AWAY, now)
    assert entry.good is None
    assert cache.look(entry, now) is None


def test_what_is_kept_fresh_is_tried_on_without_a_token(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    fail(cache, entry, AWAY, 0.0)
    assert cache.due(1.0) is entry
    cache.take_off(entry, Flight())
    cache.abandoned(entry, 1.0)
    assert cache.due(2.0) is entry


def test_success_ends_a_refusal(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    for _ in range(5):
        fail(cache, entry, DENIED, 0.0)
    issued = fetch(cache, entry, 1.0)
    assert cache.look(entry, 1.0) is issued
    assert (entry.failure, entry.failures) == (None, 0)


# --- How it ends


def test_an_unused_entry_is_freed_once_nothing_is_planned_for_it(cache: TokenCache[Flight]) -> None:
    entry = cache.entry(request_number(1))
    fetch(cache, entry)
    gone = weakref.ref(entry)
    del entry
    gc.collect()
    assert gone() is not None
    assert cache.due(100.0) is None
    gc.collect()
    assert gone() is None
    assert len(cache._entries) == 0


def test_a_refusal_outlives_the_source_that_asked(cache: TokenCache[Flight]) -> None:
    """A source for each request does not get around it."""
    fail(cache, cache.entry(request_number(1)), LimitExceeded("later", retry_after=timedelta(minutes=1)), 0.0)
    gc.collect()
    with pytest.raises(LimitExceeded):
        cache.look(cache.entry(request_number(1)), 59.9)
    assert cache.due(60.0 + LONGEST_PAUSE) is None
    gc.collect()
    assert len(cache._entries) == 0


def test_nothing_is_left_after_forgetting(cache: TokenCache[Flight]) -> None:
    good, refused, busy = (cache.entry(request_number(number)) for number in range(3))
    keeper = Keeper()
    good.keepers.add(keeper)
    cache.invalidate(good, fetch(cache, good), 10.0)
    fetch(cache, good, 10.0)
    cache.look(good, 10.0)
    fail(cache, refused, LimitExceeded("later", retry_after=timedelta(hours=1)), 10.0)
    cache.take_off(busy, Flight())
    cache.forget()
    assert cache.next_due() == NEVER
    assert cache.flights() == []
    for entry in (good, refused, busy):
        assert cache.look(entry, 10.0) is None
        assert entry.good is None
        assert entry.owner is None
    assert (good.dropped_at, good.due_at, refused.failures) == (float("-inf"), None, 0)
    assert cache._caller is None


# --- Approvals


NOT_APPROVED = ApprovalRequired("people have to approve it")


def test_what_an_approval_paid_for_is_handed_out_and_never_renewed(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    issued = fetch(cache, entry, approval="approvalRequests/1")
    assert cache.look(entry, 250.0) is issued
    assert (cache.due(299.0), cache.next_due()) == (None, NEVER)
    assert cache.look(entry, 300.0) is None  # who needs another asks for it
    cache.invalidate(entry, issued, 300.0)
    cache.caller_changed(SETTLER_ROTATED, 301.0)
    assert cache.next_due() == NEVER


def test_what_waits_for_approval_is_not_asked_for_in_the_background(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    fail(cache, entry, NOT_APPROVED, 0.0)
    while (moment := cache.next_due()) != NEVER:
        assert cache.due(moment) is None
    fail(cache, entry, AWAY, 10.0)
    assert cache.next_due() == NEVER


def test_once_people_approved_it_may_be_asked_for_at_once(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    other = cache.entry(request_number(1))
    fail(cache, entry, NOT_APPROVED, 0.0)
    fail(cache, other, DENIED, 0.0)
    with pytest.raises(ApprovalRequired):
        cache.look(entry, 0.1)
    cache.people_approved()
    assert cache.look(entry, 0.1) is None
    with pytest.raises(PolicyDenied):
        cache.look(other, 0.1)


def test_what_needs_no_approval_any_more_is_renewed(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fail(cache, entry, NOT_APPROVED, 0.0)
    fetch(cache, entry, 10.0)
    cache.look(entry, 20.0)
    assert cache.next_due() != NEVER


def test_another_process_learns_anew_whether_people_approve(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fail(cache, entry, NOT_APPROVED, 0.0)
    cache.forget()
    assert entry.renewable


class TestUnderAWindowOfAccess:
    """Its tokens are kept like others, and not one of them once it has ended."""

    UNDER = TokenRequest(AUDIENCE, ["ledger.read"], access="accessWindows/7")

    def test_is_renewed_while_it_is_open(self, cache: TokenCache[Flight]) -> None:
        under = cache.entry(self.UNDER)
        assert under is not cache.entry(REQUEST)
        fetch(cache, under)
        cache.look(under, 1.0)
        assert cache.due(renewed_at(cache)) is under

    def test_that_was_completed_nothing_is_handed_out_or_renewed(self, cache: TokenCache[Flight]) -> None:
        under, other = cache.entry(self.UNDER), cache.entry(REQUEST)
        for each in (under, other):
            fetch(cache, each)
        cache.access_ended("accessWindows/7")
        assert cache.look(under, 1.0) is None, "whoever asks is told by the issuer"
        assert cache.look(other, 1.0) is other.good
        assert cache.due(1_000.0) in (None, other)

    def test_that_the_issuer_ended_its_token_goes_at_once(self, cache: TokenCache[Flight]) -> None:
        under = cache.entry(self.UNDER)
        fetch(cache, under)
        flight = Flight()
        cache.take_off(under, flight)
        cache.failed(under, AccessEnded("over"), 10.0)
        with pytest.raises(AccessEnded):
            cache.look(under, 10.0)
        assert under.good is None
        assert cache.due(1_000.0) is None

    def test_that_ended_meanwhile_what_arrives_is_not_kept(self, cache: TokenCache[Flight]) -> None:
        under = cache.entry(self.UNDER)
        cache.take_off(under, Flight())
        cache.access_ended("accessWindows/7")
        assert not cache.arrived(under, arrival(token(), 0.0), SETTLER, 1.0)
        assert under.good is None
