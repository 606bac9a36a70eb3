"""Run one program such that it never outlives whoever asked for it, whatever becomes of that process.

Started by :mod:`issuer_testing.spire.guarded_process` as ``python -I guard.py FOLDER PROGRAM ARGUMENTS...``, in a
session of its own, with a pipe as standard input. Only the standard library is used, so that it starts at once.

- ``s`` on the pipe: stop the program (SIGTERM, then SIGKILL) and end.
- ``k``: SIGKILL, as a crash of the program would be.
- end of file without either: the owner is gone, even by ``kill -9``. Stop the program and remove FOLDER.

Were the guard itself killed, the kernel kills the program (PR_SET_PDEATHSIG), on Linux.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_SECONDS = 5.0
PR_SET_PDEATHSIG = 1


def main(folder: str, command: list[str]) -> int:
    """Run ``command`` until it ends or an order comes; return its exit code (128 + n for a signal n)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_dying_with(os.getpid()))  # noqa: PLW1509 - no threads yet
    order = _wait_for_order(child)
    if order == b"k":
        child.kill()
    elif child.poll() is None:
        _terminate(child)
    code = child.wait()
    if order == b"":
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _dying_with(guard: int) -> Callable[[], None]:
    def set_death_signal() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)

    return set_death_signal


def _wait_for_order(child: subprocess.Popen[bytes]) -> bytes | None:
    """Return the order's letter, ``b""`` for the end of file, ``None`` when the program ended first."""
    ended_read, ended_write = os.pipe()

    def announce_end() -> None:
        child.wait()
        os.close(ended_write)

    threading.Thread(target=announce_end, daemon=True).start()
    ready, _, _ = select.select([0, ended_read], [], [])
    return os.read(0, 1) if 0 in ready else None


def _terminate(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
