"""Which core a program runs on, and who else used it.

Where a load generator shares cores with the server, an overload takes from the server what it needs to offer it. Apart,
each has one core: what the server can do is what one core can, and the generator does not change it. It says nothing of
a server with more cores; and what other programs took of the server's core is measured, since it cannot be kept away.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Apart:
    """The cores of server and load generator; ``None``: wherever the system puts them."""

    server: int | None = None
    load: int | None = None

    @classmethod
    def of_this_machine(cls) -> Apart:
        """Return two cores that this process may use.

        Raises:
            LookupError: There is only one.
        """
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:  # noqa: PLR2004 - one for each
            raise LookupError("server and load generator cannot be kept apart on one core")
        return cls(server=cores[0], load=cores[1])


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let what is started meanwhile run on one core alone."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(core: int) -> float:
    """Return for how long a core has worked, for whomever (proc_stat(5))."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS_PER_SECOND
