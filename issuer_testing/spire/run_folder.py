"""The folder of one running SPIRE: its configuration, sockets, data and logs, gone when it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "spire-dev-"
_LOCK = "owner.lock"
# sun_path holds 108 bytes with its end; "/agent.sock" and the random part need their share of it.
_LONGEST_PARENT = 70


class RunFolder:
    """A fresh private folder, held by a lock that the kernel drops when this process ends, however it ends."""

    def __init__(self) -> None:
        """Make it, and remove those that crashed owners left behind."""
        parent = _parent()
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock: IO[bytes] = (self.path / "new.lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / "new.lock").rename(self.path / _LOCK)  # it has that name only once it is locked

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_abandoned(parent: Path) -> None:
    """Remove the run folders of this user whose owner is gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(folder: Path) -> bool:
    """Return whether no living process holds the folder; one that is gone is abandoned, one not yet locked is not."""
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return not folder.exists()
    return True


def _parent() -> Path:
    """Return the temporary folder, or /tmp where its name is too long for the sockets below it."""
    configured = tempfile.gettempdir()
    return Path(configured if len(configured) <= _LONGEST_PARENT else "/tmp")  # noqa: S108 - mkdtemp makes it private
