"""What of a long run is a fault: memory or descriptors that grow, answers that get slower, calls that fail. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORKER_KILLED, WORKERS_REPLACED = "worker killed", "workers replaced"
"""The changes that end workers, and calls in flight with them."""
BROKEN = frozenset({"Unavailable", "Canceled", "DeadlineExceeded"})
"""What callers see of the end of a connection."""
REFUSED = frozenset({"ResourceExhausted"})
"""What a machine that is busy with something else makes of any rate: no failure, if there are few."""
MAX_FAILED = 0.05
"""Of a part's calls: those in flight, and those of callers who had to dial again; a worker is back within a second."""
MEBIBYTE = 1024 * 1024
MAX_SLOPE = MEBIBYTE
"""Bytes an hour, of each process, after it is warm."""
MAX_SLOWER = 1.2
WARM = 15
"""The first samples of a process, one for each change, which are not looked at: until each kind of change has come to
it three times, code is run and room is taken for the first time."""
ENDS = 1 / 6
"""The first and the last ten minutes of an hour are compared."""
LEAST_PARTS = 3
"""What is seen in fewer is chance."""
LEAST_SAMPLES = 12
"""A process that was seen less often tells nothing: it was replaced."""


class Sample(NamedTuple):
    """What a process held at a moment: seconds since the beginning, which one, its bytes and its descriptors."""

    seconds: float
    pid: int
    name: str
    resident_bytes: int
    descriptors: int


class Growth(NamedTuple):
    """By how much a process grew, and over how long."""

    name: str
    pid: int
    minutes: float
    mebibytes_an_hour: float


def faults(samples: Sequence[Sample], p99s: Sequence[tuple[float, float]], seconds: float) -> list[str]:
    """Return what is wrong, in words.

    Args:
        samples: Of all processes, in the order of time.
        p99s: When each part began, in seconds, and its p99 in milliseconds.
        seconds: How long it went on.
    """
    found = [fault for warm in lasting(samples) for fault in _faults_of(warm)]
    first = [p99 for began, p99 in p99s if began < seconds * ENDS]
    last = [p99 for began, p99 in p99s if began >= seconds * (1 - ENDS)]
    if min(len(first), len(last)) >= LEAST_PARTS and statistics.median(last) > MAX_SLOWER * statistics.median(first):
        found.append(f"the p99 went from {statistics.median(first):.1f} to {statistics.median(last):.1f} ms")
    return found


def lasting(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Return the samples of each process that was there for long, without those of its first time."""
    of_each = [
        [sample for sample in samples if sample.pid == pid] for pid in dict.fromkeys(each.pid for each in samples)
    ]
    warm = [own[WARM:] for own in of_each]
    return [each for each in warm if len(each) >= LEAST_SAMPLES]


def failed_calls(parts: Sequence[tuple[str, Mapping[str, int]]]) -> list[str]:
    """Return which calls failed that should not have, in words.

    Args:
        parts: What was changed in each, and its calls by code. Workers may still end in the part after a change that
            ends them.
    """
    found, before = [], ""
    for position, (change, codes) in enumerate(parts):
        failed = {code: count for code, count in codes.items() if code != "OK"}
        steady = {change, before}.isdisjoint((WORKER_KILLED, WORKERS_REPLACED))
        allowed = REFUSED if steady else REFUSED | BROKEN
        if not failed.keys() <= allowed or sum(failed.values()) > MAX_FAILED * sum(codes.values()):
            found.append(f"part {position + 1} ({change}): calls failed: {failed}")
        before = change
    return found


def slope(samples: Sequence[Sample]) -> float:
    """Return by how many bytes a process grows in an hour: the median of the slopes of all pairs (Theil and Sen)."""
    slopes = [
        (later.resident_bytes - earlier.resident_bytes) / (later.seconds - earlier.seconds)
        for position, earlier in enumerate(samples)
        for later in samples[position + 1 :]
        if later.seconds > earlier.seconds
    ]
    return statistics.median(slopes) * 3600 if slopes else 0.0


def growth(samples: Sequence[Sample]) -> Growth:
    """Return by how much one process grew."""
    first, last = samples[0], samples[-1]
    return Growth(first.name, first.pid, (last.seconds - first.seconds) / 60, slope(samples) / MEBIBYTE)


def _faults_of(samples: Sequence[Sample]) -> list[str]:
    grew = growth(samples)
    who = f"{grew.name} (pid {grew.pid})"
    found = []
    if grew.mebibytes_an_hour > MAX_SLOPE / MEBIBYTE:
        found.append(f"{who} grows by {grew.mebibytes_an_hour:.1f} MiB an hour")
    half = len(samples) // 2
    before, after = (min(sample.descriptors for sample in part) for part in (samples[:half], samples[half:]))
    if after > before:
        found.append(f"{who} holds {after} descriptors at least, and {before} at first")
    return found
