"""Signed status lists on their way to the public HTTP process, through a pipe of their own.

There may be more of them than a pipe holds, so a thread writes them, and may wait. The messages of the other pipe must
not wait, and so do not stand behind them. A list that changes while it waits is sent once, as it is then.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Condition, Thread
from typing import Final

from issuer.public_http.messages import MAX_LINE_BYTES, ListShown

CLOSE_SECONDS: Final = 2.0


class ListFeed:
    """Keeps what is to be shown, and tells it to one process after another. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._changed = Condition()  # over all that follows
        self._shown: dict[str, bytes] = {}
        self._waiting: dict[str, bytes] = {}
        self._offered: int | None = None
        self._pipe: int | None = None
        self._closed = False
        self._thread = Thread(target=self._run, name="status-lists", daemon=True)

    def show(self, name: str, text: str, max_age: int) -> None:
        """Show a list, or another in its place, from now on.

        Args:
            name: The last segment of its path.
            text: The signed list; empty for a list that is shown no more.
            max_age: Seconds that it may be cached.

        Raises:
            ValueError: It is longer than a line may be.
        """
        line = ListShown(name, text, max_age).to_line()
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a signed status list has at most {MAX_LINE_BYTES} bytes with what is around it")
        with self._changed:
            if text:
                self._shown[name] = line
            else:
                self._shown.pop(name, None)
            self._waiting[name] = line
            self._changed.notify()

    def connect(self, pipe: int) -> None:
        """Tell everything to another process, by the writing end of a pipe, which is taken over."""
        with self._changed:
            if self._closed:
                os.close(pipe)
                return
            if self._offered is not None:  # its process died before the thread looked
                os.close(self._offered)
            self._offered = pipe
            if not self._thread.is_alive():
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End, once the process has: a write that waits for it then fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (due := self._next()) is not None:
            pipe, line = due
            try:
                while line:
                    line = line[os.write(pipe, line) :]
            except OSError:  # it is gone; the next one is told everything
                with self._changed:
                    self._drop()
        with self._changed:
            self._drop()
            if self._offered is not None:
                os.close(self._offered)

    def _next(self) -> tuple[int, bytes] | None:
        """Wait for something to write; ``None`` at the end."""
        with self._changed:
            while not self._closed:
                if self._offered is not None:
                    self._drop()
                    self._pipe, self._offered = self._offered, None
                    self._waiting = dict(self._shown)
                if self._pipe is not None and self._waiting:
                    return self._pipe, self._waiting.pop(next(iter(self._waiting)))
                self._changed.wait()
        return None

    def _drop(self) -> None:
        """Let go of the pipe. The caller holds the lock."""
        if self._pipe is not None:
            with suppress(OSError):
                os.close(self._pipe)
            self._pipe = None
