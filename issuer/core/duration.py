"""Durations as people write them in policy, configuration and on the command line: ``90s``, ``10m``, ``1h30m``."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(
    r"(?:(?P<days>[0-9]{1,5})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,8})m)?(?:(?P<seconds>[0-9]{1,9})s)?"
)


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``text`` spells.

    Raises:
        ValueError: When it is empty or not of the form; the message says which form is expected.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration: write it as in '90s', '10m' or '1h30m'")
    return timedelta(**{unit: int(number) for unit, number in match.groupdict().items() if number})


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that :func:`parse_duration` reads as ``duration``, in whole seconds."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
