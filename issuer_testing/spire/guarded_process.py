"""A child process that dies with its owner: the owner's end of ``guard.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GUARD = Path(__file__).with_name("guard.py")
# Longer than the guard's own patience with the program.
STOP_SECONDS = 10.0


def guarded(command: Sequence[str], folder: Path) -> list[str]:
    """Return a command that runs ``command`` and ends it, and removes ``folder``, when its standard input ends."""
    return [sys.executable, "-I", str(_GUARD), str(folder), *command]


class GuardedProcess:
    """One running program. It is stopped, and its folder removed, even when this Python process is killed."""

    def __init__(self, command: Sequence[str], *, folder: Path, log_file: Path, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            folder: Removed when this process disappears without stopping the program.
            log_file: Where its output is appended.
            environment: Its whole environment.
        """
        with log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                guarded(command, folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C in a terminal is for the owner, which then stops us in order
            )

    @property
    def pid(self) -> int:
        """The process id of the guard, whose child the program is."""
        return self._guard.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of a program that ended; ``None`` while it runs."""
        return self._guard.poll()

    def stop(self) -> None:
        """Stop the program in order: SIGTERM, then SIGKILL. One that has ended stays ended."""
        self._order(b"s")

    def kill(self) -> None:
        """Kill the program at once, as a crash would."""
        self._order(b"k")

    def _order(self, letter: bytes) -> None:
        if self._guard.stdin and not self._guard.stdin.closed:
            try:
                self._guard.stdin.write(letter)
                self._guard.stdin.close()
            except BrokenPipeError:
                pass  # it ended by itself a moment ago
        self._guard.wait(STOP_SECONDS)
