"""Waiting for a condition: looked at often, given up at a deadline, never slept for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOOK_EVERY_SECONDS = 0.05


class DeadlineExceeded(TimeoutError):
    """The condition did not come true in time. The message says which, and what was known instead."""


def wait_until(condition: Callable[[], T | None], *, what: str, seconds: float, detail: Callable[[], str] = str) -> T:
    """Call ``condition`` until it returns something true, and return that.

    Args:
        condition: Returns a false value to be asked again; what it raises ends the waiting.
        what: The condition in words, for the error: "the agent is attested".
        seconds: How long to wait; the condition is asked at least once.
        detail: Called when time is up; its text ends the error.

    Raises:
        DeadlineExceeded: ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"gave up after {seconds:g} s waiting until {what}\n{detail()}".rstrip())
        time.sleep(LOOK_EVERY_SECONDS)
