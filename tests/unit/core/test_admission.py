"""Who may go on when there is more to do than can be done."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.admission import (
    ANSWER_SECONDS,
    HELD_BY_DOMAIN_TO_FREE,
    HELD_TO_FREE,
    ITEMS_IN_A_TURN,
    LATE_FOR,
    LATE_RUNNING_TO_WAITING,
    SHORT_WAIT,
    STANDING_QUEUE,
    FairQueue,
    Limits,
    Place,
    Standing,
)
from issuer.core.spiffe_id import SpiffeId

FLOOD = SpiffeId.parse("spiffe://prod.example/flood")
OTHER = SpiffeId.parse("spiffe://prod.example/other")
MODEST = SpiffeId.parse("spiffe://prod.example/modest")
PARTNER = SpiffeId.parse("spiffe://partner.example/one")
PARTNER_TOO = SpiffeId.parse("spiffe://partner.example/two")
LIMITS = Limits(turns=20, waiting=40, wait_seconds=1.0)
ALONE = 16
"""What of these turns one caller can hold,"""
BESIDE = 3
"""and beside it another of its trust domain."""
WAITING, RUNNING, REFUSED, ENDED = Standing.WAITING, Standing.RUNNING, Standing.REFUSED, Standing.ENDED


def arrive(queue: FairQueue, caller: SpiffeId, times: int = 1, now: float = 0.0, cost: int = 1) -> list[Place]:
    return [queue.arrive(caller, cost, now)[0] for _ in range(times)]


def standings(places: list[Place]) -> Counter[Standing]:
    return Counter(place.standing for place in places)


def serve(queue: FairQueue, running: list[Place], now: float = 0.0) -> list[Place]:
    """End the call that runs longest, and return those that go on in its stead."""
    gone_on = [place for place in queue.leave(running.pop(0), now) if place.standing is RUNNING]
    running += gone_on
    return gone_on


def test_a_lone_caller_gets_what_it_asks_for_up_to_four_fifths_of_the_turns() -> None:
    queue = FairQueue(LIMITS)
    places = arrive(queue, FLOOD, times=ALONE + 12)
    assert standings(places) == {RUNNING: ALONE, WAITING: 12}
    assert (queue.running, queue.waiting) == (ALONE, 12)


def test_turns_are_left_for_others_however_many_calls_one_caller_has() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, FLOOD, times=40)
    assert standings(arrive(queue, MODEST, times=BESIDE)) == {RUNNING: BESIDE}


def test_two_who_flood_still_leave_a_turn() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, OTHER)
    arrive(queue, FLOOD, times=20)
    arrive(queue, OTHER, times=20)
    assert queue.running < LIMITS.turns
    assert standings(arrive(queue, PARTNER)) == {RUNNING: 1}


def test_calls_of_one_caller_go_on_in_their_order() -> None:
    queue = FairQueue(LIMITS)
    places = arrive(queue, FLOOD, times=ALONE + 12)
    running = places[:ALONE]
    assert [serve(queue, running)[0] for _ in range(12)] == places[ALONE:]


def test_who_asked_for_less_goes_on_before_all_calls_of_who_asked_for_more() -> None:
    queue = FairQueue(LIMITS)
    running = arrive(queue, FLOOD, times=40)[:ALONE] + arrive(queue, OTHER, times=BESIDE)
    waiting = arrive(queue, MODEST, times=1)
    assert standings(waiting) == {WAITING: 1}
    assert serve(queue, running) == waiting


def test_shares_are_by_trust_domain_first() -> None:
    queue = FairQueue(Limits(turns=1, waiting=1000, wait_seconds=1.0))
    running = arrive(queue, FLOOD)
    for caller in (FLOOD, OTHER, MODEST, PARTNER):
        arrive(queue, caller, times=30)
    served = Counter[SpiffeId]()
    owner = {
        id(place.path[-1]): caller for caller in (FLOOD, OTHER, MODEST, PARTNER) for place in arrive(queue, caller)
    }
    for _ in range(30):
        served.update(owner[id(place.path[-1])] for place in serve(queue, running))
    assert served[PARTNER] == 15
    assert {served[caller] for caller in (FLOOD, OTHER, MODEST)} <= {4, 5, 6}


def test_a_batch_counts_its_items_against_its_callers_share() -> None:
    queue = FairQueue(Limits(turns=1, waiting=1000, wait_seconds=1.0))
    running = arrive(queue, FLOOD)
    arrive(queue, FLOOD, times=2, cost=100)
    singles = arrive(queue, MODEST, times=100)
    for _ in range(101):
        serve(queue, running)
    assert all(place.standing in {RUNNING, ENDED} for place in singles[:98])


def test_a_batch_takes_a_turn_for_each_of_its_pieces() -> None:
    queue = FairQueue(LIMITS)
    [batch] = arrive(queue, FLOOD, cost=ITEMS_IN_A_TURN * 2)
    assert (batch.standing, queue.running) == (RUNNING, 3)
    queue.leave(batch, 0.0)
    assert queue.running == 0


def test_a_call_that_waited_too_long_is_refused_rather_than_answered_late() -> None:
    queue = FairQueue(LIMITS)
    places = arrive(queue, FLOOD, times=ALONE + 2)
    changed = queue.leave(places[0], 1.5)
    assert changed == places[ALONE:]
    assert standings(places[ALONE:]) == {REFUSED: 2}
    assert queue.waiting == 0


def test_giving_up_refuses_what_waits_and_nothing_else() -> None:
    queue = FairQueue(LIMITS)
    places = arrive(queue, FLOOD, times=ALONE + 1)
    queue.give_up(places[-1])
    queue.give_up(places[0])
    assert (places[-1].standing, places[0].standing, queue.waiting) == (REFUSED, RUNNING, 0)


def test_a_call_that_ends_while_it_waits_leaves_the_queue() -> None:
    queue = FairQueue(LIMITS)
    places = arrive(queue, FLOOD, times=ALONE + 1)
    assert queue.leave(places[-1], 0.0) == []
    assert (places[-1].standing, queue.waiting, queue.running) == (ENDED, 0, ALONE)


def test_a_call_waits_no_longer_than_its_caller_does() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, FLOOD, times=ALONE)
    soon, _ = queue.arrive(FLOOD, 1, 0.0, within=0.5)
    late, _ = queue.arrive(FLOOD, 1, 0.0, within=ANSWER_SECONDS / 2)
    assert (soon.standing, soon.expires) == (WAITING, 0.5 - ANSWER_SECONDS)
    assert late.standing is REFUSED


def test_a_call_in_a_hurry_goes_on_when_a_turn_is_free() -> None:
    assert FairQueue(LIMITS).arrive(FLOOD, 1, 0.0, within=0.01)[0].standing is RUNNING


def test_a_caller_who_waits_all_the_time_waits_shorter_until_it_did_not() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, FLOOD, times=ALONE)
    part = 1.0 / STANDING_QUEUE
    burst, later, standing = (queue.arrive(FLOOD, 1, now)[0] for now in (0.0, part * 0.9, part))
    assert (burst.expires, later.expires, standing.expires) == (1.0, 1.0 + part * 0.9, part + part)
    for place in (burst, later, standing):
        queue.give_up(place)
    again, _ = queue.arrive(FLOOD, 1, 2.0)
    assert again.expires == 3.0


LATE_AFTER = LIMITS.wait_seconds / STANDING_QUEUE
SHORT = LIMITS.wait_seconds / SHORT_WAIT


def late(queue: FairQueue, caller: SpiffeId = FLOOD) -> tuple[list[Place], float]:
    """Let a caller ask for more than its share until it is late; return its calls, and the time."""
    places = arrive(queue, caller, times=ALONE + 12)
    now = SHORT
    while not queue.would_refuse(caller, now):
        now += SHORT
        assert now < SHORT + 2 * LATE_AFTER
    return places, now


def test_a_caller_whose_first_call_waits_for_long_all_the_time_is_late_and_refused_at_once() -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    assert now >= LATE_AFTER
    assert standings(places) == {RUNNING: ALONE, WAITING: 12}
    place, changed = queue.arrive(FLOOD, 1, now)
    assert (place.standing, changed) == (REFUSED, [])


def test_no_other_caller_is_late_with_it() -> None:
    queue = FairQueue(LIMITS)
    _, now = late(queue)
    arrive(queue, OTHER, times=BESIDE, now=now)
    assert not queue.would_refuse(OTHER, now)
    assert not queue.would_refuse(MODEST, now), "nobody knows it yet"
    assert not queue.would_refuse(PARTNER, now), "nor its trust domain"
    assert standings(arrive(queue, MODEST, now=now)) == {WAITING: 1}


def test_a_stall_makes_nobody_late() -> None:
    queue = FairQueue(LIMITS)
    running = arrive(queue, FLOOD, times=ALONE + 12)[:ALONE]
    assert not queue.would_refuse(FLOOD, LATE_AFTER * 3), "the first look"
    for _ in range(12):
        serve(queue, running, LATE_AFTER * 3)
    arrive(queue, FLOOD, now=LATE_AFTER * 3)
    assert not queue.would_refuse(FLOOD, LATE_AFTER * 3)


def test_a_late_caller_has_as_many_in_the_queue_as_run_and_when_they_waited_long_half_of_that() -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    running = places[:ALONE]
    for _ in range(12):
        serve(queue, running, now)
    assert standings(arrive(queue, FLOOD, times=ALONE + 4, now=now)) == {WAITING: ALONE, REFUSED: 4}
    now += LATE_AFTER
    assert queue.would_refuse(FLOOD, now)
    few = ALONE // LATE_RUNNING_TO_WAITING
    while queue.waiting >= few:
        assert queue.would_refuse(FLOOD, now)
        serve(queue, running, now)
    assert not queue.would_refuse(FLOOD, now)


def test_a_late_caller_of_whom_nothing_is_there_any_more_may_go_on() -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    others = arrive(queue, OTHER, times=BESIDE + 5, now=now)
    for place in places:
        queue.leave(place, now)
    assert standings(others) == {RUNNING: BESIDE + 5}
    assert not queue.would_refuse(FLOOD, now)
    assert standings(arrive(queue, FLOOD, now=now)) == {RUNNING: 1}


def test_it_is_late_no_more_when_it_asked_for_no_more_than_it_got_for_a_while() -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    for place in places:
        queue.leave(place, now)
    assert queue.remembered == 1, "not forgotten as long as it lasts"
    again = arrive(queue, FLOOD, times=ALONE + 12, now=now + LATE_FOR * LATE_AFTER)
    assert standings(again) == {RUNNING: ALONE, WAITING: 12}


def taken_in(queue: FairQueue, now: float, caller: SpiffeId = FLOOD) -> int:
    """Let calls of a caller come until one would be refused; return how many were not."""
    calls = 0
    while not queue.would_refuse(caller, now):
        arrive(queue, caller, now=now)
        calls += 1
    return calls


@pytest.mark.parametrize("leave", range(0, ALONE + 13, 3))
def test_an_allowance_is_what_comes_before_a_late_caller_is_refused(leave: int) -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    for place in places[:leave]:
        queue.leave(place, now)
    allowed = queue.allowance(FLOOD, now)
    assert allowed is not None
    assert allowed.calls == taken_in(queue, now)
    assert 0 < allowed.seconds <= LATE_FOR * LATE_AFTER


def test_who_is_not_late_or_not_known_has_no_allowance_to_keep_to() -> None:
    queue = FairQueue(LIMITS)
    assert queue.allowance(FLOOD, 0.0) is None
    arrive(queue, FLOOD, times=ALONE + 12)
    assert queue.allowance(FLOOD, 0.0) is None
    assert queue.allowance(OTHER, 0.0) is None, "its trust domain is known, it is not"
    _, now = late(FairQueue(LIMITS))
    assert queue.allowance(PARTNER, now) is None


def test_a_caller_stays_late_while_its_calls_are_refused_elsewhere() -> None:
    queue = FairQueue(LIMITS)
    places, now = late(queue)
    for place in places:
        queue.leave(place, now)
    later = now + LATE_FOR * LATE_AFTER * 0.9
    queue.refused_elsewhere(FLOOD, later)
    queue.refused_elsewhere(OTHER, later)
    allowed = queue.allowance(FLOOD, later)
    assert allowed is not None
    assert allowed.seconds == pytest.approx(LATE_FOR * LATE_AFTER)
    assert queue.allowance(FLOOD, later + allowed.seconds) is None
    assert queue.allowance(OTHER, later) is None


def test_where_turns_take_long_to_wait_for_as_long_is_no_harm() -> None:
    queue = FairQueue(LIMITS)
    now = 0.0
    running = arrive(queue, FLOOD, times=ALONE)
    for _ in range(100):
        now += LATE_AFTER * 2
        for place in running:
            queue.leave(place, now)
        running = arrive(queue, FLOOD, times=ALONE, now=now)
    arrive(queue, FLOOD, now=now)
    looks = [queue.would_refuse(FLOOD, now + LATE_AFTER * part / 10) for part in range(19)]
    assert looks == [False] * 19


def test_who_comes_when_another_waits_all_the_time_may_wait_as_long_as_ever() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, FLOOD, times=ALONE + 20)
    arrive(queue, OTHER, times=BESIDE)
    place, _ = queue.arrive(MODEST, 1, 0.9)
    assert (place.standing, place.expires) == (WAITING, 1.9)


def test_when_the_queue_is_full_the_one_with_most_in_it_makes_room() -> None:
    queue = FairQueue(LIMITS)
    flood = arrive(queue, FLOOD, times=ALONE + 40)
    arrive(queue, OTHER, times=BESIDE)
    place, changed = queue.arrive(MODEST, 1, 0.0)
    assert place.standing is WAITING
    assert changed == flood[-1:]  # its newest
    assert flood[-1].standing is REFUSED
    assert arrive(queue, FLOOD)[0].standing is REFUSED


def test_when_the_queue_is_full_the_trust_domain_with_most_in_it_makes_room() -> None:
    queue = FairQueue(LIMITS)
    flood = arrive(queue, FLOOD, times=ALONE) + arrive(queue, OTHER, times=BESIDE)
    [last] = arrive(queue, PARTNER)
    waiting = [place for _ in range(20) for caller in (FLOOD, OTHER) for place in arrive(queue, caller)]
    assert standings([*flood, *waiting, last]) == {RUNNING: LIMITS.turns, WAITING: 40}
    place, changed = queue.arrive(PARTNER, 1, 0.0)
    assert (place.standing, [each.standing for each in changed]) == (WAITING, [REFUSED])


def test_a_caller_of_a_trust_domain_that_floods_makes_room_in_its_own() -> None:
    queue = FairQueue(LIMITS)
    arrive(queue, FLOOD, times=ALONE)
    arrive(queue, PARTNER, times=LIMITS.turns - ALONE)
    arrive(queue, FLOOD, times=20)
    crowd = arrive(queue, PARTNER, times=20)
    place, changed = queue.arrive(PARTNER_TOO, 1, 0.0)
    assert (place.standing, changed) == (WAITING, crowd[-1:])


def test_a_batch_does_not_push_out_those_who_have_less_than_it_has_items() -> None:
    queue = FairQueue(Limits(turns=1, waiting=40, wait_seconds=1.0))
    flood = arrive(queue, FLOOD, times=31)
    assert arrive(queue, MODEST, cost=10)[0].standing is WAITING
    assert arrive(queue, MODEST, cost=31)[0].standing is REFUSED
    place, changed = queue.arrive(OTHER, 15, 0.0)
    assert (place.standing, changed) == (WAITING, flood[:-16:-1])


def test_a_call_that_goes_on_at_once_needs_no_room_in_the_queue() -> None:
    queue = FairQueue(LIMITS)
    flood = arrive(queue, FLOOD, times=ALONE + 40)
    place, changed = queue.arrive(MODEST, 256, 0.0)
    assert (place.standing, changed, standings(flood)[REFUSED]) == (RUNNING, [], 0)


def test_when_nobody_waits_any_more_all_is_forgiven_and_forgotten() -> None:
    queue = FairQueue(LIMITS)
    [batch] = arrive(queue, FLOOD, cost=256)
    assert queue.remembered == 1
    assert queue.leave(batch, 0.0) == []
    assert queue.remembered == 0
    assert queue.leave(batch, 0.0) == []  # once more does no harm
    queue.give_up(batch)
    assert arrive(queue, FLOOD)[0].standing is RUNNING


def test_callers_are_forgotten_when_there_are_too_many_but_not_those_who_are_there() -> None:
    queue = FairQueue(Limits(turns=20, waiting=300, wait_seconds=1.0, callers=5))
    [stays] = arrive(queue, FLOOD)
    for number in range(1000):
        [place] = arrive(queue, SpiffeId.parse(f"spiffe://prod.example/w/{number}"))
        queue.leave(place, 0.0)
        assert queue.remembered <= 5
    assert arrive(queue, FLOOD)[0].path == stays.path


def test_when_all_are_busy_who_are_remembered_one_more_is_remembered() -> None:
    queue = FairQueue(Limits(turns=10, waiting=300, wait_seconds=1.0, callers=1))
    arrive(queue, FLOOD)
    arrive(queue, OTHER)
    assert queue.remembered == 2


CALLERS = (FLOOD, OTHER, MODEST, PARTNER, PARTNER_TOO)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "leave", "give up"]),
        st.sampled_from(CALLERS),
        st.sampled_from([1, 1, 1, 5, 17, 40, 256]),
        st.integers(0, 50),
        st.floats(0, 0.4),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_bounds_hold_and_nobody_waits_for_nothing(
    steps: list[tuple[str, SpiffeId, int, int, float]],
) -> None:
    queue, places, now = FairQueue(LIMITS), list[Place](), 0.0
    for what, caller, cost, which, passed in steps:
        now += passed
        alive = [place for place in places if place.standing in {WAITING, RUNNING}]
        if what == "arrive":
            place, changed = queue.arrive(caller, cost, now)
            places.append(place)
            assert place not in changed
        elif alive and what == "leave":
            queue.leave(alive[which % len(alive)], now)
        elif alive:
            queue.give_up(alive[which % len(alive)])
        running = [place for place in places if place.standing is RUNNING]
        waiting = [place for place in places if place.standing is WAITING]
        assert queue.running == sum(place.turns for place in running) < LIMITS.turns + 1 + 256 // ITEMS_IN_A_TURN
        assert queue.waiting == sum(place.cost for place in waiting) <= LIMITS.waiting
        assert queue.running or not waiting, "somebody waits while nothing runs"
        free = LIMITS.turns - queue.running
        for _, domain, caller_ in (place.path for place in waiting if what != "give up"):
            assert domain.running >= HELD_BY_DOMAIN_TO_FREE * free or caller_.running >= HELD_TO_FREE * free


@given(st.lists(st.tuples(st.sampled_from(CALLERS), st.sampled_from([1, 1, 4, 16])), min_size=30, max_size=60))
def test_who_waits_all_the_time_gets_its_share_but_for_one_call(asked: list[tuple[SpiffeId, int]]) -> None:
    """The bound of start-time fair queueing: between two who wait, what they get differs by their largest calls."""
    queue = FairQueue(Limits(turns=1, waiting=10_000, wait_seconds=1e9))
    running = arrive(queue, MODEST)
    owners: dict[Place, SpiffeId] = {}
    left = Counter[SpiffeId]()
    for caller, cost in asked:
        [place] = arrive(queue, caller, cost=cost)
        owners[place], left[caller] = caller, left[caller] + 1
    had = Counter[SpiffeId]()
    partners = {PARTNER, PARTNER_TOO}
    while min(left[caller] for caller in (FLOOD, OTHER)) > 0 and running:
        for place in serve(queue, running):
            had[owners[place]] += place.cost
            left[owners[place]] -= 1
        if all(left[caller] > 0 for caller in (FLOOD, OTHER)):
            assert abs(had[FLOOD] - had[OTHER]) <= 16 + 16
        if all(left[caller] > 0 for caller in CALLERS):
            ours = sum(had[caller] for caller in CALLERS if caller not in partners)
            assert abs(ours - had[PARTNER] - had[PARTNER_TOO]) <= 16 + 16 + 1


class _Slower(FairQueue):
    """Lets every call through the queue, however empty that is."""

    def _begin_at_once(self, place: Place, now: float) -> bool:
        return False


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "arrive", "leave", "give up"]),
        st.sampled_from([FLOOD, OTHER, MODEST, PARTNER]),
        st.sampled_from([1, 1, ITEMS_IN_A_TURN * 2]),
        st.integers(0, 30),
    ),
    max_size=80,
)


@given(EVENTS)
def test_a_call_that_begins_at_once_changes_nothing_for_the_others(
    events: list[tuple[str, SpiffeId, int, int]],
) -> None:
    queues = FairQueue(LIMITS), _Slower(LIMITS)
    placed: list[tuple[Place, Place]] = []
    for number, (event, caller, cost, which) in enumerate(events):
        now = number / 10
        if event == "arrive":
            first, second = (queue.arrive(caller, cost, now)[0] for queue in queues)
            placed.append((first, second))
        elif placed:
            for queue, place in zip(queues, placed[which % len(placed)], strict=True):
                if event == "give up":
                    queue.give_up(place)
                elif place.standing is not ENDED:
                    queue.leave(place, now)
        assert [first.standing for first, _ in placed] == [second.standing for _, second in placed]
        assert len({(queue.running, queue.waiting) for queue in queues}) == 1
