"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def told_duration(seconds: float) -> str:
    """Return a length of time in its two largest units, as in ``4 min 3 s``."""
    left = int(abs(seconds))
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break  # no `1 d 3 s`
    return " ".join(parts[:2]) or "0 s"


def told_relative(moment: float, now: float) -> str:
    """Return when a moment is, seen from now: ``in 4 min 3 s`` or ``12 s ago``."""
    told = told_duration(moment - now)
    return f"in {told}" if moment > now else f"{told} ago"


def told_moment(seconds: float) -> str:
    """Return a moment as a date and time in UTC. The calendar has to have it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
