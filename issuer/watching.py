"""Tells when files changed: by the operating system's events, and by looking again from time to time.

Events can be lost (a folder that is replaced whole, some network file systems), so what counts is the look: names,
sizes, inodes and times of the files. A burst of changes, as a checkout makes it, is one change.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchfiles import awatch

from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

LOOK_AGAIN_SECONDS: Final = 5.0
_BURST_MS: Final = 400
_STEP_MS: Final = 100

Look = frozenset[tuple[str, int, int, int]]


async def watch(path: Path, on_change: Callable[[], Awaitable[None]], stop: asyncio.Event, *, seen: Look) -> None:
    """Call ``on_change`` after each change below ``path``, a folder or a file that may come and go, until ``stop``.

    ``seen`` is the :func:`look` from before ``path`` was read, so that no change since then is missed.
    """
    while not stop.is_set():
        await _something(path, stop)
        now = await asyncio.to_thread(look, path)
        if now != seen and not stop.is_set():
            seen = now
            await on_change()


async def _something(path: Path, stop: asyncio.Event) -> None:
    """Wait for an event, for the time to look again, or for ``stop``."""
    is_folder = await asyncio.to_thread(path.is_dir)
    try:
        async for _ in awatch(
            path if is_folder else path.parent,
            recursive=is_folder,  # what else is below the folder of a single file may be a whole disk
            watch_filter=None,
            debounce=_BURST_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=int(LOOK_AGAIN_SECONDS * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            return
    except OSError:  # not there yet, or no more
        await first_of(stop, within=LOOK_AGAIN_SECONDS)


def look(path: Path) -> Look:
    """Return what is to be seen of the files below ``path``; links are followed, so that their targets count."""
    seen = set()
    for file in _files(path):
        try:
            status = file.stat()
        except OSError:
            continue
        seen.add((str(file), status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(seen)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, _, files in os.walk(path):
        for name in files:
            yield Path(folder, name)
