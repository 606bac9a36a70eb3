"""One child: kept company, told of new tokens, and followed to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from agent_client.cli.child import exit_code
from agent_client.cli.follower import Lost
from agent_client.cli.printing import end_by
from agent_client.cli.signals import ENDING, NEWS, has_to_be_passed_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client import IssuedToken
    from agent_client.cli.signals import Arrived, BlockedSignals

News: TypeAlias = "IssuedToken | Lost"
RESTART_GRACE_SECONDS = 10.0
"""How long a child may take to end before it is killed: what Docker gives."""
_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


@dataclass(frozen=True, slots=True)
class OnRenewal:
    """What happens to the child when there is another token: it is started anew, or sent a signal, or neither."""

    restart: bool = False
    signal: signal.Signals | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a supervisor does besides.

    Attributes:
        launch: Starts the child with a token, and returns its process id.
        renew: Puts the next token where the child finds it. It does not fail.
        current: Returns the token that the child finds, which is not the newest one while that cannot be written.
        lost: Is told that there is no token any more.
        tend: Does what is due; returns the seconds until it wants to be called again.
    """

    launch: Callable[[IssuedToken], int]
    renew: Callable[[IssuedToken], None]
    current: Callable[[], IssuedToken | None]
    lost: Callable[[Exception], None]
    tend: Callable[[], float]


class Supervisor:
    """Runs one child at a time, from the first token to its end. For the main thread: the child dies with that.

    Args:
        signals: Entered before any thread was started.
        hooks: What to do.
        on_renewal: What the child is told.
    """

    def __init__(self, signals: BlockedSignals, hooks: Hooks, on_renewal: OnRenewal) -> None:
        self._signals = signals
        self._hooks = hooks
        self._on_renewal = on_renewal
        self._news: SimpleQueue[News] = SimpleQueue()
        self._child: int | None = None
        self._told: IssuedToken | None = None
        self._next: IssuedToken | None = None
        self._kill_at: float | None = None
        self._ending = False

    def post(self, news: News) -> None:
        """Tell of a token, or that there is none. From any thread."""
        self._news.put(news)
        self._signals.tell()

    def run(self) -> int:
        """Return what to exit with, once the child has ended.

        Raises:
            Exception: Why there was no first token, or no child.
        """
        leads_session = os.getsid(0) == os.getpid()
        while True:
            arrived = self._signals.wait(self._seconds())
            if arrived is None:
                self._kill_overdue()
            elif arrived.number == NEWS:
                self._take_news()
            elif arrived.number == signal.SIGCHLD:
                if (code := self._ended()) is not None:
                    return code
            elif self._child is None:
                _as_without_us(arrived.number)
            elif has_to_be_passed_on(arrived, self._child, leads_session=leads_session):
                self._pass_on(self._child, arrived)

    def _seconds(self) -> float:
        seconds = self._hooks.tend()
        self._tell_child()
        return seconds if self._kill_at is None else min(seconds, max(self._kill_at - time.monotonic(), 0.0))

    def _take_news(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                news = self._news.get_nowait()
                if isinstance(news, Lost):
                    self._lose(news.cause)
                elif self._child is None:
                    self._launch(news)
                else:
                    self._renew(self._child, news)

    def _lose(self, cause: Exception) -> None:
        if self._child is None:
            raise cause
        self._hooks.lost(cause)

    def _renew(self, child: int, issued: IssuedToken) -> None:
        self._hooks.renew(issued)
        if self._on_renewal.restart and not self._ending:
            self._next = issued
            if self._kill_at is None:
                self._kill_at = time.monotonic() + RESTART_GRACE_SECONDS
                os.kill(child, signal.SIGTERM)

    def _launch(self, issued: IssuedToken) -> None:
        self._child, self._told = self._hooks.launch(issued), issued

    def _tell_child(self) -> None:
        """Send the child its signal, once it can find another token than the one that it knows of."""
        current = self._hooks.current()
        if self._child is None or current is None or current is self._told:
            return
        self._told = current
        if self._on_renewal.signal is not None:
            os.kill(self._child, self._on_renewal.signal)

    def _pass_on(self, child: int, arrived: Arrived) -> None:
        # Who ends us ends the child, also one that was about to be started anew.
        if arrived.number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._ending, self._kill_at = True, None
        os.kill(child, arrived.number)

    def _kill_overdue(self) -> None:
        if self._child is not None and self._kill_at is not None and time.monotonic() >= self._kill_at:
            os.kill(self._child, signal.SIGKILL)
            # Not at once again: one that waits for a disk or a network file system ends when that answers.
            self._kill_at = time.monotonic() + RESTART_GRACE_SECONDS

    def _ended(self) -> int | None:
        """Reap every process that has ended, ours and, as process 1, everybody's; return what to exit with, if so."""
        code = None
        with contextlib.suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                pid, status = reaped
                if pid != self._child:
                    continue
                if os.WIFSTOPPED(status):
                    _stop_as_the_child(os.WSTOPSIG(status))
                else:
                    code = exit_code(status)
        if code is None or self._next is None or self._ending:
            return code
        issued, self._next, self._kill_at = self._next, None, None
        self._launch(issued)
        return None


def _as_without_us(number: int) -> None:
    """Let a signal do before the child's start what it does to any program."""
    if number in ENDING:
        end_by(signal.Signals(number))
    if number == signal.SIGTSTP:
        os.kill(os.getpid(), signal.SIGSTOP)


def _stop_as_the_child(number: int) -> None:
    """Stop with a child that its terminal stopped: the shell waits for us, and takes the terminal when we stop."""
    if number in _JOB_CONTROL:
        os.kill(os.getpid(), signal.SIGSTOP)
