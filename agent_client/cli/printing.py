"""The product of a command, on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent_client.cli.failure import CommandFailed, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable


def fill_closed_streams() -> None:
    """Put the null device where this process was started without a standard stream.

    The next file or connection would get its number, and what is meant for the user would go there. Messages to a
    closed standard error are lost; that a token is, :func:`print_result` tells by its exit code.
    """
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)
    # They are None where they were closed.
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def print_result(text: str) -> None:
    """Print ``text`` and a line feed, whole or with an error.

    A reader that went away ends the command as it ends any program, by SIGPIPE and without a word.

    Raises:
        CommandFailed: Standard output cannot be written, for example to a full disk.
    """
    if sys.stdout is None:
        raise CommandFailed(ExitCode.NOT_WRITTEN, "standard output cannot be written: it is closed")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        end_by(signal.SIGPIPE)
    except OSError as error:
        # What is left in the buffer would be tried again, with a traceback, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandFailed(ExitCode.NOT_WRITTEN, f"standard output cannot be written: {error.strerror}") from error


def end_by(number: signal.Signals) -> None:
    """End this process by a signal, as if it had never been caught: so its parent sees why."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, as :func:`print_result` does."""
    print_result("\n".join(lines))


def print_json(document: object) -> None:
    """Print a value as JSON, as :func:`print_result` does."""
    print_result(json.dumps(document, indent=2))
