"""CPU seconds of a process and all its descendants, from the operating system's accounting."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of ``pid`` and its descendants, in seconds, ended ones included."""
    return sum(_own(each) for each in [pid, *descendants(pid)])


def _own(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it ended between the listing and the look
        return 0.0
    # proc(5), fields 14 to 17 of the whole line: its own user and system time, and that of children that it waited for.
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND


def descendants(pid: int) -> list[int]:
    """Return the processes that ``pid`` started, and those that these did, as far as they run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text()
        except (FileNotFoundError, ProcessLookupError):  # as above
            continue
        for child in map(int, children.split()):
            found += [child, *descendants(child)]
    return found
