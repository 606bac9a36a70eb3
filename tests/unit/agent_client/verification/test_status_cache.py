"""How long a status list is used, and when it is fetched again."""

from __future__ import annotations

import pytest

from agent_client.verification.status_cache import (
    LONGEST_PAUSE_SECONDS,
    LONGEST_TTL,
    MAX_LISTS,
    MAX_REMEMBERED,
    Found,
    Moment,
    StatusCache,
)
from agent_client.verification.status_token import ReadList

URI = "https://issuer.example/status-lists/1"
WALL = 1_000_000


def at(seconds: float) -> Moment:
    return Moment(seconds, WALL + seconds)


def listed(issued_at: int = WALL, ttl: int = 60, lives: int = 600) -> ReadList:
    return ReadList(issued_at, issued_at + lives, ttl, 1, bytes(2))


@pytest.fixture
def cache() -> StatusCache:
    return StatusCache(None, leeway=5.0)


def test_the_first_look_fetches_and_waits_and_only_once(cache: StatusCache) -> None:
    assert cache.find(URI, at(0)) == Found(None, fetch=True, wait=True)
    assert cache.find(URI, at(0)) == Found(None, fetch=False, wait=True)
    cache.fetched(URI, listed(), at(1))
    assert cache.find_again(URI, at(1)) == listed()
    assert cache.find_again("https://issuer.example/status-lists/2", at(1)) is None


def test_is_fresh_then_due_then_late(cache: StatusCache) -> None:
    cache.find(URI, at(0))
    cache.fetched(URI, listed(), at(0))
    assert cache.find(URI, at(29)) == Found(listed())
    assert cache.find(URI, at(30)) == Found(listed(), fetch=True)
    assert cache.find(URI, at(59)) == Found(listed())
    assert cache.find(URI, at(60)) == Found(listed(), wait=True)


def test_while_it_is_fresh_it_can_be_used_without_a_lock(cache: StatusCache) -> None:
    assert cache.fresh(URI, 0) is None
    cache.find(URI, at(0))
    assert cache.fresh(URI, 0) is None
    cache.fetched(URI, listed(), at(0))
    assert cache.fresh(URI, 29.9) == listed()
    assert cache.fresh(URI, 30) is None


def test_fresh_is_no_longer_than_its_exp_or_the_verifier_allows() -> None:
    strict = StatusCache(3.0, leeway=5.0)
    strict.fetched(URI, listed(), at(0))
    assert strict.fresh(URI, 2.9) == listed()
    assert strict.fresh(URI, 3) is None
    short = StatusCache(None, leeway=5.0)
    short.fetched(URI, listed(lives=10), at(0))
    assert short.fresh(URI, 14.9) is not None
    assert short.fresh(URI, 15) is None


def test_while_fetches_fail_it_is_used_until_its_exp_and_nobody_waits(cache: StatusCache) -> None:
    cache.find(URI, at(0))
    cache.fetched(URI, listed(), at(0))
    assert cache.find(URI, at(70)) == Found(listed(), fetch=True, wait=True)
    cache.failed(URI, "away", at(70))
    assert cache.fault(URI) == "away"
    assert cache.find(URI, at(70)) == Found(listed())
    assert cache.find(URI, at(72)) == Found(listed(), fetch=True)
    cache.failed(URI, "away", at(604))
    assert cache.find_again(URI, at(604)) == listed()
    assert cache.find_again(URI, at(605)) is None


def test_pauses_between_failures_grow_to_a_bound(cache: StatusCache) -> None:
    now, waited = 0.0, []
    for _ in range(8):
        while not cache.find(URI, at(now)).fetch:
            now += 0.05
        cache.failed(URI, "away", at(now))
        began = now
        while not cache.find(URI, at(now)).fetch:
            assert not cache.find(URI, at(now)).wait, "nothing is under way"
            now += 0.05
        cache.failed(URI, "away", at(now))
        waited.append(now - began)
    assert waited[0] <= 1.05
    assert max(waited) <= LONGEST_PAUSE_SECONDS + 0.05


def test_may_be_used_for_less_than_its_exp_allows() -> None:
    cache = StatusCache(90.0, leeway=5.0)
    cache.find(URI, at(0))
    cache.fetched(URI, listed(), at(0))
    assert cache.find_again(URI, at(89)) == listed()
    assert cache.find_again(URI, at(90)) is None


def test_an_older_list_than_one_that_was_seen_is_a_failed_fetch(cache: StatusCache) -> None:
    new, old = listed(WALL + 2), listed(WALL + 1)
    cache.find(URI, at(0))
    cache.fetched(URI, new, at(0))
    cache.find(URI, at(30))
    cache.fetched(URI, old, at(30))
    assert "older" in cache.fault(URI)
    assert cache.find_again(URI, at(30)) == new, "what was revoked stays so"
    cache.fetched(URI, new, at(40))
    assert cache.fault(URI) == ""


def test_the_newest_iat_is_remembered_of_a_list_that_is_no_longer_kept(cache: StatusCache) -> None:
    cache.find(URI, at(0))
    cache.fetched(URI, listed(WALL + 2), at(0))
    for number in range(MAX_LISTS):
        cache.find(f"https://issuer.example/other/{number}", at(1))
    assert cache.find_again(URI, at(1)) is None
    cache.fetched(URI, listed(WALL + 1), at(2))
    assert cache.find_again(URI, at(2)) is None


def test_remembers_no_more_than_so_many(cache: StatusCache) -> None:
    cache.fetched(URI, listed(WALL + 2), at(0))
    for number in range(MAX_REMEMBERED):
        cache.fetched(f"https://issuer.example/other/{number}", listed(), at(1))
    cache.fetched(URI, listed(WALL + 1), at(2))
    assert cache.fault(URI) == ""


def test_a_ttl_of_years_is_an_hour_and_one_that_is_never_over_a_second(cache: StatusCache) -> None:
    cache.find(URI, at(0))
    long = listed(ttl=10**9, lives=10**9)
    cache.fetched(URI, long, at(0))
    assert cache.find(URI, at(LONGEST_TTL / 2 - 1)) == Found(long)
    assert cache.find(URI, at(LONGEST_TTL / 2)) == Found(long, fetch=True)


def test_after_a_fork_a_fetch_that_was_under_way_is_begun_anew(cache: StatusCache) -> None:
    cache.find(URI, at(0))
    cache.abandoned()
    assert cache.find(URI, at(0)).fetch
    assert cache.fault("https://issuer.example/never") == ""
