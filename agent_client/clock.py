"""The only looks of this package at the clock: the time of day, and the time that has gone by."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the one place


def elapsed() -> float:
    """Return seconds that only grow, whatever is done to the time of day.

    On Linux they also count while the host is suspended (clock_gettime(2), ``CLOCK_BOOTTIME``): a token ages meanwhile.
    """
    return time.clock_gettime(_CLOCK)
