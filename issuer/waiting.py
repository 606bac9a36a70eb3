"""Waiting for events, and waking an event loop from other threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def first_of(*events: asyncio.Event, within: float | None) -> None:
    """Return when one of the events is set, or so many seconds have passed."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def threadsafe(callback: Callable[[], None]) -> Callable[[], None]:
    """Return what runs ``callback`` in the event loop that runs now, from whichever thread it is called."""
    loop = asyncio.get_running_loop()
    return lambda: _call_soon(loop, callback)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
