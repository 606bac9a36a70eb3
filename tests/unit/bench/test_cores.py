"""Server and load generator on one core each."""

from __future__ import annotations

import os

import pytest

from bench.cores import Apart, busy_seconds, on_core


def test_what_is_started_on_a_core_stays_there_and_the_rest_does_not() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
        with on_core(None):
            assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_server_and_generator_get_different_cores_or_none() -> None:
    with on_core(min(os.sched_getaffinity(0))), pytest.raises(LookupError, match="one core"):
        Apart.of_this_machine()
    if len(os.sched_getaffinity(0)) > 1:
        cores = Apart.of_this_machine()
        assert cores.server != cores.load


def test_the_work_of_a_core_is_counted() -> None:
    core = min(os.sched_getaffinity(0))
    before = busy_seconds(core)
    with on_core(core):
        while busy_seconds(core) <= before:
            sum(range(10_000))
