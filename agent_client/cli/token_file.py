"""A file with a token: there whole or not at all, never readable by others for a moment, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from agent_client.cli.failure import CommandFailed, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_MODE = 0o600
ALLOWED_MODE = 0o660
"""Who may at most: the owner and the group. A token that every user of a host reads is nobody's secret."""
_LEFT_BEHIND_SECONDS = 60
"""A temporary file that is older than the newest by so much was left by a writer that was killed."""
_SUFFIX = ".spiffe-token"
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EACCES: "this user may not write to its folder",
    errno.EPERM: "this user may not write to its folder",
    errno.EROFS: "its file system is read-only",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is a file",
}


class TokenFile:
    """One file that is replaced whole.

    Args:
        path: Where.
        mode: Its permissions, whatever the umask says.

    Raises:
        CommandFailed: The place is unusable: no folder, or something that is not a file.
    """

    def __init__(self, path: Path, mode: int = DEFAULT_MODE) -> None:
        self.path = path
        self._mode = mode
        self._refuse_unusable()

    def replace(self, text: str) -> None:
        """Put ``text`` in place of what is there, durably.

        1. A new file beside it, with its mode from the start, written and synced to disk.
        2. A rename: a reader opens the old file or the new one.
        3. The folder synced, so that the rename outlives a crash.

        Raises:
            CommandFailed: It cannot be written. What was there before is there still, unless only step 3 failed.
        """
        try:
            self._refuse_unusable()
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._replace_in(folder, text.encode())
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failure(error) from error

    def remove(self) -> None:
        """Take the file away; without effect when it is gone.

        Raises:
            CommandFailed: It cannot be taken away.
        """
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(error, "removed") from error

    def _refuse_unusable(self) -> None:
        try:
            kind = self.path.lstat().st_mode
        except FileNotFoundError:
            kind = None
        except OSError as error:
            raise self._failure(error) from error
        if not self.path.parent.is_dir():
            raise self._unusable("its folder does not exist")
        if kind is not None and stat.S_ISLNK(kind):
            raise self._unusable("it is a symbolic link, which would be replaced and not followed: name the file")
        if kind is not None and not stat.S_ISREG(kind):
            raise self._unusable("it is a folder" if stat.S_ISDIR(kind) else "it is no file")

    def _replace_in(self, folder: int, content: bytes) -> None:
        name = f".{self.path.name}.{secrets.token_hex(8)}{_SUFFIX}"
        try:
            written = _write(folder, name, content, self._mode)  # 1
            os.rename(name, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)  # 2
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)  # 3
        self._sweep(folder, written)

    def _sweep(self, folder: int, written: float) -> None:
        """Take away what writers that were killed between 1 and 2 left behind. Times are the file system's own."""
        for name in os.listdir(folder):
            if name.startswith(f".{self.path.name}.") and name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < written - _LEFT_BEHIND_SECONDS:
                        os.unlink(name, dir_fd=folder)

    def _unusable(self, why: str) -> CommandFailed:
        return CommandFailed(ExitCode.NOT_WRITTEN, f"{self.path} cannot be written: {why}")

    def _failure(self, error: OSError, done: str = "written") -> CommandFailed:
        why = _REASONS.get(error.errno or 0, error.strerror)
        return CommandFailed(ExitCode.NOT_WRITTEN, f"{self.path} cannot be {done}: {why}")


def parse_mode(text: str) -> int:
    """Return the permissions that octal digits spell.

    Raises:
        ValueError: They are none, or would let others than owner and group read, or the owner not.
    """
    try:
        mode = int(text, 8)
    except ValueError:
        raise ValueError(f"{text!r} is no mode: write it in octal, as in 0640") from None
    if mode & ~ALLOWED_MODE or not mode & stat.S_IRUSR:
        raise ValueError(f"{text} is refused: a token is for its owner and at most a group, as in 0600, 0640 or 0440")
    return mode


def _write(folder: int, name: str, content: bytes, mode: int) -> float:
    """Write a new file, and return when that was."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    # Not with `mode` at once: umask would take bits of it away, and what may be too many must not be there first.
    file = os.open(name, flags, DEFAULT_MODE, dir_fd=folder)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fchmod(file, mode)
        os.fsync(file)
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
