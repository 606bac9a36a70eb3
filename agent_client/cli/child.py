"""The program that ``exec`` runs: found, started beside gRPC's threads, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Never

from agent_client.cli.failure import CommandFailed, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores in its own process, and a program expects to have its usual effect."""
SIGNAL_DEATH = 128
"""What shells add to the number of the signal that ended a program (POSIX XCU 2.8.2)."""


def refuse_missing(program: str, environment: Mapping[str, str]) -> None:
    """Refuse a program that is not there, before a token is asked for in its name.

    Raises:
        CommandFailed: It is not found, or is no program that this user may run.
    """
    if shutil.which(program, path=environment.get("PATH", os.defpath)) is not None:
        return
    if os.sep in program and Path(program).exists():
        raise CommandFailed(ExitCode.CANNOT_RUN, f"{program} cannot be run: it is no program that this user may run")
    raise CommandFailed(ExitCode.NOT_FOUND, f"{program} cannot be run: there is no such program")


def start(command: Sequence[str], environment: Mapping[str, str], mask: Iterable[int]) -> int:
    """Start a program that is killed when the calling thread ends, and return its process id.

    posix_spawn(3) runs no code of ours in the copy of this process, whose other threads may hold any lock. What other
    descriptors this process was given go to the program, as they would without us.

    Args:
        command: The program and its arguments. They are seen by everybody on this host: no token belongs there.
        environment: Its variables.
        mask: The signals that it begins with blocked.

    Raises:
        CommandFailed: This host cannot start another process.
    """
    helper = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid()), *command]
    try:
        return os.posix_spawn(sys.executable, helper, environment, setsigmask=mask, setsigdef=_DEFAULTED)
    except OSError as error:
        raise CommandFailed(ExitCode.CANNOT_RUN, f"{command[0]} cannot be run: {error.strerror}") from error


def become(command: Sequence[str], environment: Mapping[str, str]) -> Never:
    """Become another program. It keeps this process id, and whatever waits for us waits for it.

    Raises:
        CommandFailed: That failed.
    """
    for number in _DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - no shell is the point
    except OSError as error:
        code = ExitCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ExitCode.CANNOT_RUN
        raise CommandFailed(code, f"{command[0]} cannot be run: {error.strerror}") from error


def exit_code(status: int) -> int:
    """Return what to exit with after a program that ended with this wait status: its code, or 128 and its signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNAL_DEATH - code
