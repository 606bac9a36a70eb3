"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import asyncio
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, within: float = 60.0) -> T:
    """Return the first result of ``look`` that is true. A look that raises OSError or AssertionError is tried again."""
    deadline = monotonic() + within
    pause = Event()
    while True:
        try:
            if result := look():
                return result
            fault: Exception = AssertionError(f"still {result!r}")
        except (OSError, AssertionError) as error:
            fault = error
        if monotonic() > deadline:
            raise AssertionError(f"not within {within} s") from fault
        pause.wait(0.02)


async def eventually_true(look: Callable[[], bool], *, within: float = 60.0) -> None:
    """Return once ``look`` is true; other tasks of the event loop run meanwhile."""
    deadline = monotonic() + within
    while not look():
        assert monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.02)
