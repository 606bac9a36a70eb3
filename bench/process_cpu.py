"""CPU seconds of a process and all its descendants, from the operating system's accounting."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of ``pid`` and its living descendants, in seconds."""
    return sum(_own(each) for each in [pid, *_descendants(pid)])


def _own(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # it ended between the listing and the look
        return 0.0
    user, system = int(fields[11]), int(fields[12])  # proc(5): fields 14 and 15 of the whole line
    return (user + system) / _TICKS_PER_SECOND


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found
