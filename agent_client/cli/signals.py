"""Waiting for signals one by one, with where each came from: whether it has to be passed on depends on that."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGTSTP,
        signal.SIGCONT,
    }
)
FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGCONT})
"""What the kernel sends to every process of a terminal's foreground group: the child has had it as we have."""
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""What ends a process that does nothing about it."""
NEWS: int = getattr(signal, "SIGRTMAX", 0)
"""A thread of ours has something to say. A real-time signal, since nobody sends those by accident."""
CAN_WAIT = hasattr(signal, "sigtimedwait") and NEWS > 0
"""Whether this system has what :class:`BlockedSignals` needs. macOS has neither."""


class Arrived(NamedTuple):
    """A signal.

    Attributes:
        number: Which.
        by_kernel: Whether the kernel sent it, as a terminal does, and not a process.
        sender: The process that sent it; 0 for the kernel, and for one of another PID namespace.
    """

    number: int
    by_kernel: bool
    sender: int


def has_to_be_passed_on(arrived: Arrived, child: int, *, leads_session: bool) -> bool:
    """Say whether ``child``, which is in our process group, still needs what we got.

    1. Not what it sent itself, to its group or to us.
    2. Not what the kernel sent to the whole group of a terminal: Ctrl-C must not count twice.
    3. A hang-up by the kernel goes to the leader of the session, and to the group only when the leader ends. So it is
       passed on by the leader alone.
    4. All else. What a process sends to the whole group arrives twice then; to lose it would be worse.

    Args:
        arrived: What we got.
        child: The process id of the child.
        leads_session: Whether we lead our session, as the first process of a container or of ``ssh -t`` does.
    """
    if arrived.sender == child:  # 1
        return False
    if arrived.by_kernel and arrived.number in FROM_TERMINAL:  # 2
        return False
    if arrived.by_kernel and arrived.number == signal.SIGHUP:  # 3
        return leads_session
    return arrived.number in PASSED_ON  # 4


class BlockedSignals:
    """Keeps the signals that matter here pending until they are waited for.

    Enter it before any thread is started: threads begin with the mask of who starts them, and a signal that one of them
    did not block would end the process. Signals that were ignored from the start, as by ``nohup``, stay ignored.

    Attributes:
        mask: The signals that were blocked before; for a program that is started meanwhile.
    """

    def __init__(self) -> None:
        ignored = {number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN}
        self._waited_for = (PASSED_ON | {signal.SIGCHLD, NEWS}) - ignored
        self.mask: set[int] = set()

    def wait(self, seconds: float) -> Arrived | None:
        """Return the next signal; ``None`` after so many seconds."""
        found = signal.sigtimedwait(self._waited_for, seconds)
        if found is None:
            return None
        # sigaction(2): a positive si_code is the kernel's.
        return Arrived(found.si_signo, found.si_code > 0, found.si_pid)

    @staticmethod
    def tell() -> None:
        """Let :meth:`wait` return ``NEWS``. From any thread."""
        os.kill(os.getpid(), NEWS)

    def __enter__(self) -> Self:
        self.mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._waited_for))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
