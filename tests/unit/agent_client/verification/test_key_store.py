"""The key cache shared by threads and event loops: one fetch for all who wait, and nobody held for long."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually, eventually_true
from support.forging import Forge, fixed_forge

from agent_client.verification import key_store
from agent_client.verification.errors import KeysUnavailable, RejectionReason, TokenRejected
from agent_client.verification.key_sources import FetchedKeys
from agent_client.verification.key_store import MAX_THREADS_FOR_NEW_KEYS, KeyStore

if TYPE_CHECKING:
    from collections.abc import Iterator

FORGE = fixed_forge()
KNOWN = FORGE.key_id
HOUR = 3600.0


class Source:
    """A key source that a test opens and shuts."""

    def __init__(self, *forges: Forge) -> None:
        self.forges = forges or (FORGE,)
        self.fault: Exception | None = None
        self.open = Event()
        self.open.set()
        self.fetches = 0
        self.at_once = 0
        self._lock = Lock()

    def fetch(self) -> FetchedKeys:
        with self._lock:
            self.fetches += 1
            self.at_once += 1
        assert self.at_once == 1, "fetched twice at once"
        self.open.wait(30)
        with self._lock:
            self.at_once -= 1
        if self.fault is not None:
            raise self.fault
        return FetchedKeys({"keys": [forge.jwk for forge in self.forges]}, timedelta(seconds=100))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.open.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(source: Source, clock: Clock) -> KeyStore:
    return KeyStore(source, HOUR, monotonic=clock)


def idle(source: Source) -> None:
    """Wait until no fetch runs."""
    eventually(lambda: not any(thread.name == "issuer-keys" for thread in threading.enumerate()))
    assert source.at_once == 0


def test_fetches_once_for_many_threads(store: KeyStore, source: Source) -> None:
    source.open.clear()
    with ThreadPoolExecutor(50) as pool:
        looks = [pool.submit(store.get, KNOWN) for _ in range(50)]
        eventually(lambda: source.fetches)
        source.open.set()
        assert {look.result(20).key_id for look in looks} == {KNOWN}
    assert source.fetches == 1


async def test_fetches_once_for_many_tasks_and_never_blocks_the_loop(store: KeyStore, source: Source) -> None:
    source.open.clear()
    tasks = [asyncio.create_task(store.get_async(KNOWN)) for _ in range(500)]
    await eventually_true(lambda: source.fetches == 1)  # which runs on this loop
    assert not any(task.done() for task in tasks)
    source.open.set()
    assert {key.key_id for key in await asyncio.gather(*tasks)} == {KNOWN}
    assert source.fetches == 1
    assert (await store.get_async(KNOWN)).key_id == KNOWN


async def test_a_task_that_is_cancelled_leaves_the_fetch_to_the_others(store: KeyStore, source: Source) -> None:
    source.open.clear()
    gone, stays = (asyncio.create_task(store.get_async(KNOWN)) for _ in range(2))
    await eventually_true(lambda: source.fetches == 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    source.open.set()
    assert (await stays).key_id == KNOWN


def test_a_loop_that_ends_while_a_fetch_runs_hurts_nobody(store: KeyStore, source: Source) -> None:
    source.open.clear()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.get_async(KNOWN), 0.05)

    asyncio.run(give_up())
    source.open.set()
    idle(source)
    assert asyncio.run(store.get_async(KNOWN)).key_id == KNOWN


async def test_tells_tasks_too_that_a_key_is_unknown(store: KeyStore) -> None:
    with pytest.raises(TokenRejected) as refused:
        await store.get_async("unknown")
    assert refused.value.reason is RejectionReason.KEY_UNKNOWN


def test_stale_keys_are_refreshed_beside(store: KeyStore, source: Source, clock: Clock) -> None:
    store.warm_up()
    clock.now += 100
    source.open.clear()
    assert store.get(KNOWN).key_id == KNOWN  # at once, although the fetch hangs
    assert store.get(KNOWN).key_id == KNOWN
    eventually(lambda: source.fetches == 2)
    source.open.set()
    idle(source)
    clock.now += 99
    store.get(KNOWN)
    assert source.fetches == 2


def test_a_new_key_is_found_at_once(store: KeyStore, source: Source) -> None:
    store.warm_up()
    new = fixed_forge(2)
    source.forges = (FORGE, new)
    assert store.get(new.key_id).key_id == new.key_id
    assert source.fetches == 2


def test_garbage_cannot_hold_every_thread_while_a_fetch_hangs(store: KeyStore, source: Source) -> None:
    store.warm_up()
    source.open.clear()
    with ThreadPoolExecutor(MAX_THREADS_FOR_NEW_KEYS + 4) as pool:
        held = [pool.submit(store.get, f"garbage-{number}") for number in range(MAX_THREADS_FOR_NEW_KEYS)]
        eventually(lambda: store._seats._value == 0)
        with pytest.raises(KeysUnavailable, match="too many") as refused:
            pool.submit(store.get, "garbage").result(20)
        assert refused.value.retry_after
        assert pool.submit(store.get, KNOWN).result(20).key_id == KNOWN
        source.open.set()
        for look in held:
            assert isinstance(look.exception(20), TokenRejected)
    assert source.fetches == 2
    with pytest.raises(TokenRejected):
        store.get("garbage")


async def test_garbage_in_tasks_takes_no_thread(store: KeyStore, source: Source) -> None:
    await asyncio.to_thread(store.warm_up)
    source.open.clear()
    tasks = [asyncio.create_task(store.get_async(f"garbage-{number}")) for number in range(200)]
    await eventually_true(lambda: source.fetches == 2)
    assert (await store.get_async(KNOWN)).key_id == KNOWN
    assert [thread.name for thread in threading.enumerate()].count("issuer-keys") == 1
    source.open.set()
    assert all(isinstance(outcome, TokenRejected) for outcome in await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize("warm", [False, True])
def test_gives_up_waiting_for_a_fetch_that_hangs(
    store: KeyStore, source: Source, monkeypatch: pytest.MonkeyPatch, *, warm: bool
) -> None:
    if warm:
        store.warm_up()
    monkeypatch.setattr(key_store, "WAIT_SECONDS", 0.05)
    source.open.clear()
    with pytest.raises(KeysUnavailable):
        store.get("unknown")
    with pytest.raises(KeysUnavailable):
        asyncio.run(store.get_async("unknown"))
    with pytest.raises(KeysUnavailable):
        store.warm_up()


def test_says_why_there_are_no_keys_and_when_to_come_again(
    store: KeyStore, source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_client.verification")
    source.fault = OSError("the cable is out")
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="the cable is out") as refused:
            store.get(KNOWN)
        assert refused.value.retry_after
        assert timedelta() < refused.value.retry_after <= timedelta(seconds=1)
    assert source.fetches == 1, "a failing issuer is left alone for a while"
    source.fault = None
    clock.now += 1
    assert store.get(KNOWN).key_id == KNOWN
    assert [record.getMessage() for record in caplog.records] == [
        "the issuer's keys cannot be had: the cable is out",
        "the issuer's keys are back",
    ]


def test_an_error_without_text_is_named(store: KeyStore, source: Source) -> None:
    source.fault = TimeoutError()
    with pytest.raises(KeysUnavailable, match="TimeoutError"):
        store.get(KNOWN)


def test_an_issuer_that_is_away_costs_nothing_until_its_keys_are_gone(
    store: KeyStore, source: Source, clock: Clock
) -> None:
    store.warm_up()
    source.fault = OSError("away")
    for _ in range(59):
        clock.now += 60
        assert store.get(KNOWN).key_id == KNOWN
        idle(source)
    clock.now += 60
    with pytest.raises(KeysUnavailable, match="away"):
        store.get(KNOWN)


def test_a_key_set_that_is_none_is_a_failure(store: KeyStore, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "fetch", lambda: FetchedKeys({"keys": 1}, None))
    with pytest.raises(KeysUnavailable, match="no JWK Set"):
        store.get(KNOWN)


def test_a_key_set_without_a_key_that_can_be_used_is_unavailable(
    store: KeyStore, source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.warm_up()
    monkeypatch.setattr(source, "fetch", lambda: FetchedKeys({"keys": [{"kid": "x"}]}, None))
    with pytest.raises(KeysUnavailable, match="no key that can be used"):
        store.warm_up()
    with pytest.raises(KeysUnavailable):
        store.get(KNOWN)
    assert "keys of the issuer are left out: keys[0]" in caplog.text


def test_keys_that_are_left_out_are_logged_once(
    store: KeyStore, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.forges = (FORGE, FORGE, fixed_forge(2))
    for _ in range(3):
        store.warm_up()
    assert caplog.text.count("left out") == 1
    source.forges = (FORGE,)
    store.warm_up()
    assert "none any more" in caplog.text


def test_warming_up_fails_where_there_are_no_keys_even_if_old_ones_serve(store: KeyStore, source: Source) -> None:
    store.warm_up()
    source.fault = OSError("away")
    with pytest.raises(KeysUnavailable, match="away"):
        store.warm_up()
    assert store.get(KNOWN).key_id == KNOWN
    source.fault = None
    store.warm_up()


def test_warming_up_joins_a_fetch_that_runs(store: KeyStore, source: Source) -> None:
    source.open.clear()
    with ThreadPoolExecutor(2) as pool:
        both: list[Future[Any]] = [pool.submit(store.warm_up), pool.submit(store.get, KNOWN)]
        eventually(lambda: source.fetches)
        source.open.set()
        for outcome in both:
            outcome.result(20)
    assert source.fetches == 1


def test_a_closed_store_has_no_keys_and_fetches_none(store: KeyStore, source: Source) -> None:
    store.warm_up()
    store.close()
    store.close()
    for look in (lambda: store.get(KNOWN), store.warm_up, lambda: asyncio.run(store.get_async(KNOWN))):
        with pytest.raises(KeysUnavailable, match="closed"):
            look()
    assert source.fetches == 1


def test_what_a_fetch_brings_after_closing_is_dropped(store: KeyStore, source: Source) -> None:
    source.open.clear()
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(store.get, KNOWN)
        eventually(lambda: source.fetches)
        store.close()
        source.open.set()
        assert isinstance(look.exception(20), KeysUnavailable)


def test_a_machine_without_room_for_a_thread_is_no_deadlock(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(KeysUnavailable, match="can't start new thread"):
        store.get(KNOWN)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("moment", ["warm", "fetching"])
def test_a_forked_child_fetches_for_itself(store: KeyStore, source: Source, moment: str) -> None:
    """gunicorn --preload: the parent's thread, and whoever held its lock, are not in the child."""
    if moment == "warm":
        store.warm_up()
    else:
        source.open.clear()
        threading.Thread(target=lambda: _ignoring(store), daemon=True).start()
        eventually(lambda: source.fetches)
    with store._lock:
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            source.open.set()
            source._lock, source.at_once = Lock(), 0
            try:
                os._exit(0 if store.get(KNOWN).key_id == KNOWN else 1)
            finally:
                os._exit(2)
    source.open.set()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _ignoring(store: KeyStore) -> None:
    store.get(KNOWN)


def test_keys_age_while_the_host_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = Source(), time.clock_gettime
    store = KeyStore(source, HOUR)
    store.get(KNOWN)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: read(clock) + 2 * HOUR)  # time.monotonic stood still
    source.fault = OSError("away")
    with pytest.raises(KeysUnavailable, match="away"):
        store.get(KNOWN)
