"""Calls that do not end for a moment: their connections stay open until their clients know that they are to go."""

from __future__ import annotations

import asyncio


class HeldCalls:
    """Whether calls are held, and the wait of those that are. For one event loop."""

    def __init__(self) -> None:
        self._released: asyncio.Event | None = None

    def __bool__(self) -> bool:
        """Return whether a call that is about to end is to :meth:`wait`."""
        return self._released is not None

    def hold(self) -> None:
        """Let no call end from now on."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let calls end again, those that were held first."""
        if self._released is not None:
            self._released.set()
            self._released = None

    async def wait(self) -> None:
        """Return once calls may end."""
        if self._released is not None:
            await self._released.wait()
