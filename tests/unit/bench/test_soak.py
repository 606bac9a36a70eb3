"""What a long run calls a fault, and what it sees of processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.processes import processes
from bench.soak_verdict import MAX_SLOPE, WORKER_KILLED, Sample, failed_calls, faults, slope
from issuer_testing.deadline import wait_until

HOUR = 3600.0
STEADY = [(position * 60.0, 10.0) for position in range(60)]


def samples(bytes_an_hour: float = 0.0, descriptors: int = 0, count: int = 60) -> list[Sample]:
    """A worker that grows so much, seen each minute; it is 50 MB larger before it is warm."""
    cold = count // 4 - 1
    return [
        Sample(
            number * 60.0,
            7,
            "issuer.workers.child",
            int((0 if number < cold else 50_000_000) + bytes_an_hour * number / 60),
            20 + number * descriptors // count,
        )
        for number in range(count)
    ]


def test_a_slope_is_told_by_the_hour_and_does_not_heed_a_few_that_stray() -> None:
    def seen(seconds: float, resident: int) -> Sample:
        return Sample(seconds, 7, "issuer", resident, 20)

    grows = [seen(number * 60.0, 1000 * number) for number in range(30)]
    assert slope(grows) == pytest.approx(60_000)
    assert slope([*grows, seen(1800.0, 10**9), seen(1860.0, -(10**9))]) == pytest.approx(60_000)
    assert slope(grows[:1]) == 0


def test_what_stays_as_it_is_is_no_fault() -> None:
    assert faults(samples(), STEADY, HOUR) == []
    assert faults(samples(bytes_an_hour=MAX_SLOPE * 0.9), STEADY, HOUR) == []


def test_memory_that_grows_is_told_with_its_process() -> None:
    assert faults(samples(bytes_an_hour=MAX_SLOPE * 3), STEADY, HOUR) == [
        "issuer.workers.child (pid 7) grows by 3.0 MiB an hour"
    ]


def test_descriptors_that_grow_are_told() -> None:
    (told,) = faults(samples(descriptors=10), STEADY, HOUR)
    assert told == "issuer.workers.child (pid 7) holds 26 descriptors at least, and 22 at first"


def test_a_worker_that_was_soon_replaced_tells_nothing() -> None:
    assert faults(samples(bytes_an_hour=MAX_SLOPE * 100, count=10), STEADY, HOUR) == []


def test_answers_that_get_slower_are_told() -> None:
    slower = [(began, p99 * (1.3 if began >= HOUR * 5 / 6 else 1)) for began, p99 in STEADY]
    assert faults(samples(), slower, HOUR) == ["the p99 went from 10.0 to 13.0 ms"]
    assert faults(samples(), slower[::30], HOUR) == [], "of two parts each nothing can be said"


def test_processes_are_told_apart_by_the_module_that_they_run() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'http.server', '0'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as parent:
        try:
            child = wait_until(
                lambda: next((each for each in processes(parent.pid) if each.name == "http.server"), None),
                what="the child runs",
                seconds=20,
            )
            assert child.resident_bytes > 1_000_000
            assert child.descriptors >= 3
            assert {each.pid for each in processes(parent.pid)} >= {parent.pid, child.pid}
        finally:
            for each in processes(parent.pid)[::-1]:
                os.kill(each.pid, 9)
    assert processes(parent.pid) == []


def test_a_call_that_fails_while_no_worker_ends_is_a_fault() -> None:
    assert failed_calls([("nothing", {"OK": 900}), ("key changed", {"OK": 899, "ResourceExhausted": 1})]) == []
    assert failed_calls([("key changed", {"OK": 899, "Unavailable": 1})]) == [
        "part 1 (key changed): calls failed: {'Unavailable': 1}"
    ]


def test_the_end_of_a_worker_may_cost_a_few_calls_in_its_part_and_the_next() -> None:
    ended = {"OK": 95, "Unavailable": 5}
    assert failed_calls([(WORKER_KILLED, ended), ("nothing", ended)]) == []
    assert len(failed_calls([(WORKER_KILLED, {"OK": 94, "Unavailable": 6})])) == 1, "a few"
    assert len(failed_calls([(WORKER_KILLED, {"OK": 99, "Internal": 1})])) == 1, "a refusal is no broken connection"
    assert len(failed_calls([(WORKER_KILLED, ended), ("nothing", {"OK": 9}), ("nothing", ended)])) == 1
