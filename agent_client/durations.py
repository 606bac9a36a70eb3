"""Lifetimes as people write them on a command line: ``90s``, ``5m``, ``1h30m``."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"(?:(?P<hours>[0-9]{1,4})h)?(?:(?P<minutes>[0-9]{1,6})m)?(?:(?P<seconds>[0-9]{1,8})s)?")


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``text`` spells.

    Raises:
        ValueError: It is empty, zero or not of the form.
    """
    match = _DURATION.fullmatch(text)
    duration = timedelta(
        **{unit: int(number) for unit, number in (match.groupdict() if match else {}).items() if number}
    )
    if not duration:
        raise ValueError(f"{text!r} is not a duration: write it as in '90s', '5m' or '1h30m'")
    return duration
