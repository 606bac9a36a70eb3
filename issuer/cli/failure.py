"""How a command ends when it did not work: one readable message on standard error, and an exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    """What the exit code of a command means."""

    OK = 0
    FAILED = 1
    USAGE = 2


def fail(message: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Print ``message`` and end the command."""
    for line in message.splitlines():
        typer.echo(f"issuer: {line}", err=True)
    raise typer.Exit(int(code))
