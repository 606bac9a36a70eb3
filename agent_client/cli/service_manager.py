"""Telling systemd, or who speaks like it, how a service does (sd_notify(3)). Without one, nothing is told."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from agent_client.settings import NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC, from_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICROSECONDS = 1_000_000


class ServiceManager:
    """The service manager of this process.

    Args:
        environment: The variables of its protocol; by default those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        read = from_environment if environment is None else environment.get
        self._address = _address(read(NOTIFY_SOCKET))
        self.is_ready = False
        """Whether :meth:`ready` was called."""
        self.watchdog_seconds = _watchdog_seconds(read(WATCHDOG_USEC), read(WATCHDOG_PID))
        """How often :meth:`alive` has to be called: half of what is allowed (sd_watchdog_enabled(3)); or ``None``."""

    def ready(self, status: str) -> None:
        """Tell that the service does its work, and how it is."""
        self.is_ready = True
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Tell in a sentence how it is."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Tell that it does not hang."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that it ends."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # A manager that went away is no reason to stop serving, and a full queue none to wait.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(0)
            out.sendto(message.encode(), self._address)


def _address(told: str | None) -> str | bytes | None:
    """Return the address of the socket. One of another family than UNIX, as of vsock, is not spoken to."""
    if told is None or told[0] not in "/@":
        return None
    # "@" stands for the zero byte of the abstract namespace (unix(7)).
    return b"\0" + os.fsencode(told[1:]) if told.startswith("@") else told


def _watchdog_seconds(microseconds: str | None, pid: str | None) -> float | None:
    if microseconds is None or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if pid is not None and pid != str(os.getpid()):
        return None
    return int(microseconds) / _MICROSECONDS / 2


def _line(text: str) -> str:
    """Return ``text`` on one line: a line feed would begin another assignment."""
    return " ".join(text.split())
