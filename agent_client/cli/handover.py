"""How ``exec`` hands a token to its child: in a variable, in a file, or in both; never in its arguments."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent_client.cli.kept_file import LONGEST_SECONDS, KeptFile
from agent_client.cli.messages import tell
from agent_client.cli.token_file import DEFAULT_MODE, TokenFile
from agent_client.cli.token_forms import FileForm
from agent_client.clock import utc_now
from agent_client.settings import XDG_RUNTIME_DIR, from_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from agent_client import IssuedToken

_IN_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it, for this user alone


class Handover:
    """Where the child finds its token. What it makes on disk is gone after the ``with`` block.

    Args:
        variable: The variable that holds the token; ``None``: none does.
        file_variable: The variable that holds the path of the file; ``None``: none does.
        file: The file; ``None``: one in a folder of its own, if ``file_variable`` asks for it.

    Raises:
        CommandFailed: The file cannot be written.
    """

    def __init__(self, variable: str | None, file_variable: str | None, file: Path | None) -> None:
        self._variable = variable
        self._file_variable = file_variable
        self._path = file
        self._folder: Path | None = None
        self._kept = None if file is None else KeptFile(TokenFile(file, DEFAULT_MODE), FileForm.RAW)

    @property
    def has_file(self) -> bool:
        """Whether there is a file, so that a running child can find the next token."""
        return self._path is not None or self._file_variable is not None

    def give(self, issued: IssuedToken) -> dict[str, str]:
        """Write the file, if there is one, and return the variables for a child that starts now.

        Raises:
            CommandFailed: The file cannot be written.
        """
        variables = {}
        if self.has_file:
            self._file().put(issued, utc_now())
        if self._variable is not None:
            variables[self._variable] = issued.token.reveal()
        if self._file_variable is not None:
            variables[self._file_variable] = os.path.abspath(str(self._path))  # noqa: PTH100 - links are not followed
        return variables

    def renew(self, issued: IssuedToken) -> None:
        """Put the next token into the file, if there is one."""
        if self._kept is not None:
            self._kept.renew(issued, utc_now())

    def current(self) -> IssuedToken | None:
        """Return the token that is in the file; ``None`` when there is none."""
        return None if self._kept is None else self._kept.held

    def tend(self) -> float:
        """Do what is due, and return the seconds until the next time."""
        return LONGEST_SECONDS if self._kept is None else self._kept.tend(utc_now())

    def _file(self) -> KeptFile:
        """Return the file, in a folder of its own where none was named. Made late: who is killed leaves less behind."""
        if self._kept is None:
            self._folder = Path(tempfile.mkdtemp(prefix="spiffe-token-", dir=_private_place()))  # mode 0700
            self._path = self._folder / "token"
            self._kept = KeptFile(TokenFile(self._path, DEFAULT_MODE), FileForm.RAW)
        return self._kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif self._kept is not None and self._kept.held is not None:
            self._kept.remove()


def without(environment: Mapping[str, str], *variables: str | None) -> dict[str, str]:
    """Return an environment without variables of ours that an outer run left in it."""
    return {name: value for name, value in environment.items() if name not in variables}


def tell_lost(cause: Exception) -> None:
    """Tell that the token has ended and there is no next one."""
    tell("warning", f"the token has expired, and there is no other: {cause}")


def _private_place() -> str | None:
    """Return where to make a private folder: in memory where that is possible, so that no disk keeps a token."""
    for place in (from_environment(XDG_RUNTIME_DIR), _IN_MEMORY):
        if place is not None and os.access(place, os.W_OK | os.X_OK) and Path(place).is_dir():
            return place
    return None
