"""The key cache as a state machine: the time comes in, what to do comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forging import fixed_forge

from agent_client.verification.key_cache import (
    DEFAULT_FRESH_SECONDS,
    LONGEST_FRESH_SECONDS,
    LONGEST_PAUSE_SECONDS,
    NEW_KEY_SECONDS,
    SHORTEST_FRESH_SECONDS,
    Advice,
    Finding,
    KeyCache,
)
from agent_client.verification.key_set import read_key_set

FORGE = fixed_forge()
KNOWN = FORGE.key_id
KEYS = read_key_set(FORGE.jwks).keys
KEY = KEYS[KNOWN]
HOUR = 3600.0
START = 1000.0


def warm(max_age: float | None = 100.0, max_stale: float = HOUR) -> KeyCache:
    """A cache whose keys were fetched at START."""
    cache = KeyCache(max_stale)
    assert cache.fetching()
    cache.fetched(KEYS, max_age, START)
    return cache


def test_the_first_look_fetches_and_the_others_wait_for_that_fetch() -> None:
    cache = KeyCache(HOUR)
    assert cache.find(KNOWN, START) == Finding(Advice.WAIT, fetch=True)
    assert cache.find(KNOWN, START) == Finding(Advice.WAIT)
    assert cache.find("another", START) == Finding(Advice.WAIT)
    cache.fetched(KEYS, 100, START + 1)
    assert cache.find_again(KNOWN, START + 1) == Finding(Advice.USE, KEY)
    assert cache.find_again("another", START + 1) == Finding(Advice.UNKNOWN)


def test_fresh_keys_are_used_without_a_fetch() -> None:
    cache = warm()
    assert cache.fresh(KNOWN, START + 99.9) is KEY
    assert cache.find(KNOWN, START + 99.9) == Finding(Advice.USE, KEY)
    assert cache.fresh(KNOWN, START + 100) is None
    assert cache.fresh("another", START) is None


def test_stale_keys_are_used_while_one_fetch_runs() -> None:
    cache = warm()
    assert cache.find(KNOWN, START + 100) == Finding(Advice.USE, KEY, fetch=True)
    assert cache.find(KNOWN, START + 101) == Finding(Advice.USE, KEY)
    cache.fetched(KEYS, 100, START + 102)
    assert cache.fresh(KNOWN, START + 201) is KEY


def test_keys_that_nobody_confirmed_for_long_are_not_used_before_a_fetch() -> None:
    """A verifier that was idle must not take a key that was withdrawn meanwhile."""
    cache = warm()
    assert cache.find(KNOWN, START + 199.9).advice is Advice.USE
    cache = warm()
    assert cache.find(KNOWN, START + 200) == Finding(Advice.WAIT, fetch=True)
    assert cache.find(KNOWN, START + 201) == Finding(Advice.WAIT)
    cache.fetched({}, 100, START + 202)
    assert cache.find_again(KNOWN, START + 202) == Finding(Advice.UNAVAILABLE)


def test_while_the_issuer_is_away_nobody_waits_and_keys_last_until_they_are_gone() -> None:
    cache = warm()
    now = START + 100
    assert cache.find(KNOWN, now).fetch
    cache.failed(now)
    while now < START + HOUR - 0.1:
        finding = cache.find(KNOWN, now)
        assert finding.advice is Advice.USE
        if finding.fetch:
            cache.failed(now)
        now += 7
    assert cache.find(KNOWN, START + HOUR).advice in {Advice.UNAVAILABLE, Advice.WAIT}
    assert cache.find_again(KNOWN, START + HOUR) == Finding(Advice.UNAVAILABLE)


def test_after_they_are_gone_callers_wait_for_a_fetch_that_is_due_and_only_for_that() -> None:
    cache = warm()
    cache.failed(START + HOUR)
    assert cache.find(KNOWN, START + HOUR) == Finding(Advice.UNAVAILABLE)
    assert cache.seconds_to_next_fetch(START + HOUR) > 0
    later = START + HOUR + LONGEST_PAUSE_SECONDS
    assert cache.find(KNOWN, later) == Finding(Advice.WAIT, fetch=True)
    assert cache.seconds_to_next_fetch(later) == 0


def test_pauses_between_failing_fetches_grow_and_end_growing() -> None:
    cache = KeyCache(HOUR)
    pauses = []
    for _ in range(40):
        cache.failed(START)
        pauses.append(cache.seconds_to_next_fetch(START))
    assert 0.5 <= pauses[0] <= 1
    assert 1 <= pauses[1] <= 2
    assert all(LONGEST_PAUSE_SECONDS / 2 <= pause <= LONGEST_PAUSE_SECONDS for pause in pauses[4:])
    assert len(set(pauses[4:])) > 1, "all verifiers would come back at once"


def test_a_success_ends_the_pauses() -> None:
    cache = warm()
    cache.failed(START)
    cache.fetched(KEYS, 100, START)
    assert cache.seconds_to_next_fetch(START) == 0
    cache.failed(START)
    assert cache.seconds_to_next_fetch(START) <= 1


def test_a_new_key_is_fetched_at_once() -> None:
    cache = warm()
    assert cache.find("new", START) == Finding(Advice.WAIT_FOR_NEW_KEY, fetch=True)
    assert cache.find("new", START) == Finding(Advice.WAIT_FOR_NEW_KEY)
    assert cache.find(KNOWN, START) == Finding(Advice.USE, KEY), "known keys are not held up"
    other = fixed_forge(2)
    cache.fetched(read_key_set({"keys": [FORGE.jwk, other.jwk]}).keys, 100, START + 1)
    assert cache.find_again(other.key_id, START + 1).advice is Advice.USE


@pytest.mark.parametrize("outcome", ["fetched", "failed"])
def test_a_flood_of_unknown_keys_makes_few_fetches(outcome: str) -> None:
    cache = warm(max_age=HOUR)
    fetches = 0
    for step in range(60_000):
        now = START + step / 100
        if cache.find(f"garbage-{step}", now).fetch:
            fetches += 1
            if outcome == "fetched":
                cache.fetched(KEYS, HOUR, now)
            else:
                cache.failed(now)
    assert 50 <= fetches <= 600 / NEW_KEY_SECONDS + 1


def test_an_unknown_key_that_may_not_be_fetched_is_refused() -> None:
    cache = warm()
    cache.find("new", START)
    cache.fetched(KEYS, 100, START)
    assert cache.find("new", START + NEW_KEY_SECONDS - 0.1) == Finding(Advice.UNKNOWN)
    assert cache.find("new", START + NEW_KEY_SECONDS) == Finding(Advice.WAIT_FOR_NEW_KEY, fetch=True)


def test_nothing_is_said_of_an_unknown_key_while_the_issuer_is_away() -> None:
    """It may have been published since."""
    cache = warm()
    cache.find("new", START)
    cache.failed(START)
    assert cache.find_again("new", START) == Finding(Advice.UNAVAILABLE)
    assert cache.find("new", START) == Finding(Advice.UNAVAILABLE)


def test_nothing_is_said_of_an_unknown_key_when_the_wait_was_too_short() -> None:
    cache = warm()
    cache.find("new", START)
    assert cache.find_again("new", START + 6) == Finding(Advice.UNAVAILABLE)


def test_a_new_key_set_replaces_the_old_one_whole() -> None:
    cache = warm()
    other = fixed_forge(2)
    cache.fetched(read_key_set(other.jwks).keys, 100, START + 1)
    assert cache.find(other.key_id, START + 1).advice is Advice.USE
    assert cache.find_again(KNOWN, START + 1) == Finding(Advice.UNKNOWN)


def test_a_set_without_a_usable_key_drops_all_others_and_is_asked_for_again_soon() -> None:
    cache = warm()
    cache.fetched({}, 100, START + 1)
    assert cache.fresh(KNOWN, START + 1) is None
    assert cache.find(KNOWN, START + 1) == Finding(Advice.UNAVAILABLE)
    assert cache.find(KNOWN, START + 2) == Finding(Advice.WAIT, fetch=True)


@pytest.mark.parametrize(
    ("max_age", "max_stale", "fresh"),
    [
        (None, HOUR, DEFAULT_FRESH_SECONDS),
        (0, HOUR, SHORTEST_FRESH_SECONDS),
        (29, HOUR, SHORTEST_FRESH_SECONDS),
        (-5, HOUR, SHORTEST_FRESH_SECONDS),
        (31, HOUR, 31),
        (1e10, 86_400, LONGEST_FRESH_SECONDS),
        (float("inf"), 86_400, LONGEST_FRESH_SECONDS),
        (1e10, 60, 30),
        (100, 1, 0.5),
    ],
)
def test_keys_are_fresh_within_bounds(max_age: float | None, max_stale: float, fresh: float) -> None:
    cache = warm(max_age, max_stale)
    assert cache.fresh(KNOWN, START + fresh - 0.01) is KEY
    assert cache.fresh(KNOWN, START + fresh) is None


def test_a_fetch_that_was_lost_is_started_anew() -> None:
    cache = KeyCache(HOUR)
    assert cache.find(KNOWN, START).fetch
    assert not cache.fetching()
    cache.abandoned()
    assert cache.find(KNOWN, START).fetch


def test_forgets() -> None:
    cache = warm()
    cache.forget()
    assert cache.fresh(KNOWN, START) is None
    assert cache.find_again(KNOWN, START) == Finding(Advice.UNAVAILABLE)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["look", "look for new", "good", "empty", "fail"]), st.floats(0, 400, allow_nan=False)
        ),
        max_size=60,
    )
)
def test_never_uses_a_key_after_it_is_gone_nor_fetches_twice_at_once(steps: list[tuple[str, float]]) -> None:
    cache, now, fetched_at, under_way = KeyCache(500), 0.0, float("-inf"), False
    for step, passed in steps:
        now += passed
        if step.startswith("look"):
            finding = cache.find(KNOWN if step == "look" else "new", now)
            if finding.fetch:
                assert not under_way
                under_way = True
            assert under_way or finding.advice not in {Advice.WAIT, Advice.WAIT_FOR_NEW_KEY}, "waits for nothing"
            for key in (finding.key, cache.fresh(KNOWN, now), cache.find_again(KNOWN, now).key):
                assert key is None or now - fetched_at < 500
        elif under_way:
            under_way = False
            if step == "fail":
                cache.failed(now)
            else:
                cache.fetched(KEYS if step == "good" else {}, 100, now)
                fetched_at = now if step == "good" else float("-inf")
