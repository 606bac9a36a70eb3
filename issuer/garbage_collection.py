"""What the interpreter's collector of garbage is told, in each process.

Next to nothing that a call makes is a cycle, so the collector looks seldom, and never at what stays. It then does what
only a full collection does too seldom by itself: it frees cycles that outlived a look or two, and gives back the tuples
that the interpreter keeps for later, 2,000 of each size. Both are bounded, and would look like a leak for hours.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from issuer.waiting import first_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

ALLOCATIONS_BETWEEN_LOOKS: Final = 10_000
"""At 700 (the interpreter's own) looking for cycles took an eighth of a token's CPU. So many objects take a megabyte or
two."""
BETWEEN_SECONDS: Final = 60.0
"""Between two full collections; each takes less than a millisecond, since what stays is not looked at."""
LONG_SECONDS: Final = 0.005
"""What takes a collection longer has come to stay: told facts, revocations. Nothing is answered meanwhile."""
MUCH: Final = 20_000
"""So many objects take a collection about as long."""


def look_seldom() -> None:
    """Look for cycles seldom."""
    gc.set_threshold(ALLOCATIONS_BETWEEN_LOOKS)


def keep() -> None:
    """Never look at what is there now: it stays. Under load that would be a tenth of a second, again and again."""
    gc.collect()
    gc.freeze()


@contextmanager
def keeping() -> Iterator[None]:
    """Look at nothing while something is being made that stays; nor at that afterwards, if it is much.

    What is garbage at that moment is then kept too, if it is a cycle; what is made here should have none.
    """
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MUCH:
            gc.freeze()
        gc.enable()


def collect() -> None:
    """Collect all garbage; if there is much to look at, look at it no more. While :func:`keeping`, do nothing."""
    if not gc.isenabled():
        return
    began = time.perf_counter()
    gc.collect()
    if time.perf_counter() - began > LONG_SECONDS:
        gc.freeze()


async def collect_now_and_then(stop: asyncio.Event, *, every: float = BETWEEN_SECONDS) -> None:
    """Collect all garbage every so many seconds, until told to stop."""
    while not stop.is_set():
        await first_of(stop, within=every)
        collect()
