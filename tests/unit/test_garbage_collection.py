"""Memory that only a full collection gives back is given back, and what stays is not looked at."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from support.policies import NOW, caller, request
from support.whole_policy import WHOLE

from issuer import garbage_collection
from issuer.core.decide import decide
from issuer.core.decision import Denial
from issuer.garbage_collection import collect, collect_now_and_then, keep, keeping, look_seldom
from issuer.policy_files.directory import DirectoryPolicyBook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_SECONDS: Final = 10.0


class Knot:
    """What refers to itself, so that counting references never frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _the_collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_cycles_are_freed_now_and_then_until_told_to_stop() -> None:
    async def freed() -> None:
        stop = asyncio.Event()
        knot = Knot()
        is_gone = asyncio.Event()
        watched = weakref.ref(knot, lambda _: is_gone.set())
        del knot
        look_seldom()  # so nothing else looks
        collecting = asyncio.create_task(collect_now_and_then(stop, every=0.01))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await is_gone.wait()
            stop.set()
            await collecting
        assert watched() is None

    asyncio.run(freed())


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="free lists are CPython's")
def test_tuples_that_the_interpreter_keeps_for_later_are_given_back() -> None:
    look_seldom()
    collect()
    before = sys.getallocatedblocks()
    many = [tuple(range(1000, 1000 + size)) for size in range(2, 18) for _ in range(1500)]
    del many
    kept = sys.getallocatedblocks() - before
    collect()
    left = sys.getallocatedblocks() - before
    assert left < kept / 10


def test_what_is_there_is_not_looked_at_again() -> None:
    stays = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    keep()
    looked_at = {id(each) for each in gc.get_objects()}
    assert not any(id(each) in looked_at for each in stays)


def test_what_takes_long_to_look_at_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keep()
    stays = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    monkeypatch.setattr(garbage_collection, "LONG_SECONDS", 10.0)
    collect()
    assert id(stays[0]) in {id(each) for each in gc.get_objects()}
    monkeypatch.setattr(garbage_collection, "LONG_SECONDS", 0.0)
    collect()
    assert id(stays[0]) not in {id(each) for each in gc.get_objects()}


def test_what_is_being_loaded_is_not_looked_at() -> None:
    knot = Knot()
    watched = weakref.ref(knot)
    del knot
    with keeping():
        collect()
        assert watched() is not None
    collect()
    assert watched() is None, "it was little, so it is looked at like everything else"


def test_much_that_was_loaded_is_never_looked_at() -> None:
    with keeping():
        stays = [[] for _ in range(garbage_collection.MUCH + 1)]  # type: ignore[var-annotated]
    collect()
    assert id(stays[0]) not in {id(each) for each in gc.get_objects()}


def test_a_policy_goes_with_its_last_reference(tmp_path: Path) -> None:
    """Nobody looks for cycles in what a load makes: one would stay with all that it holds, after each load."""

    def load_twice() -> DirectoryPolicyBook:
        book = DirectoryPolicyBook(tmp_path, NOW, legacy_ceiling=timedelta(hours=4))
        book.put_in_force(book.load(NOW))
        return book

    text = yaml.safe_dump(WHOLE, sort_keys=False)
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    load_twice()
    gc.collect()
    gc.disable()
    try:
        book = load_twice()
        assert gc.collect() == 0
        assert isinstance(decide(book.current(), caller(), request(), {}, NOW), Denial)
        del book
        assert gc.collect() == 0
    finally:
        gc.enable()
