"""A word to who sits before a terminal and waits."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_client.cli.messages import tell

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW_SECONDS = 2.0
"""People take longer for a fault (Nielsen's 1 s and 10 s limits lie around it)."""


@contextmanager
def told_when_slow(what: str) -> Iterator[None]:
    """Say ``what`` on a terminal once the block has taken two seconds. Elsewhere nobody reads it, so nothing is said.

    One line, and no spinner: Ctrl-C ends the process on the spot, and nothing could then bring back a hidden cursor.
    """
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(SLOW_SECONDS, tell, ("note", f"{what} ..."))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
