"""Become another program that ends, as by SIGTERM, when the thread that started it does (Linux).

Started as ``python -I die_with_parent.py PARENT_PID PROGRAM ARGUMENTS...``. The process keeps its id and its pipes; the
order to the kernel outlives exec (prctl(2), PR_SET_PDEATHSIG). Elsewhere than on Linux it only becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):  # it ended before the order was given
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point
