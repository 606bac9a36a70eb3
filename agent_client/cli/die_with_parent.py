"""Become another program that is killed when the thread that started it ends (Linux), so that no orphan keeps a token.

Run as ``python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENTS...``, in the environment and with the descriptors
of the program. The process keeps its id; the order to the kernel outlives exec, but not the exec of a program that is
setuid or has capabilities (prctl(2), PR_SET_PDEATHSIG). Elsewhere than on Linux it only becomes the program.

A program of its own, since code of ours must not run between fork and exec in a process that has gRPC's threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN, NOT_FOUND = 126, 127  # as shells have it (POSIX XCU 2.8.2)


def main(parent: int, command: list[str]) -> int:
    """Become ``command``; return what to exit with where that fails."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the order was given
            return CANNOT_RUN
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and exec would hand down
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"error: {command[0]} cannot be run: {error.strerror}\n")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
