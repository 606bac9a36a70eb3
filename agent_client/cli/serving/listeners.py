"""Where it listens: a UNIX socket, or a port that only this host reaches."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.workload_api_socket import LONGEST_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 1024
"""Connections that wait to be taken. On a UNIX socket one more is refused at once (EAGAIN), so there is room."""
_HIGHEST_PORT = 65_535
_HIGHEST_MODE = 0o777


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A UNIX socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class LoopbackPlace:
    """A port on loopback; 0 lets the kernel choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """As ``Host`` spells it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Place = UnixPlace | LoopbackPlace


def parse_place(text: str) -> Place:
    """Return the place that ``unix:/PATH`` or ``127.0.0.1:PORT`` names.

    Raises:
        ValueError: It is neither, or other hosts could reach it, or this system does not say who asks on a UNIX socket.
    """
    if text.startswith("unix:"):
        if not hasattr(socket, "SO_PEERCRED"):
            raise ValueError("on a UNIX socket this system does not say who asks (SO_PEERCRED): use 127.0.0.1:PORT")
        path = Path(text.removeprefix("unix:").removeprefix("//"))
        if not path.is_absolute():
            raise ValueError(f"{text!r} is no absolute path: write it as in unix:/run/app/tokens.sock")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ValueError(f"{path} is too long for a UNIX socket, which has {LONGEST_PATH} bytes at most")
        return UnixPlace(path)
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{text!r} is no place to listen: write unix:/PATH or 127.0.0.1:PORT") from None
    if not loopback:
        raise ValueError(f"{text!r} is refused: tokens are given out on this host alone, as on 127.0.0.1:PORT")
    if not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise ValueError(f"{text!r} has no port")
    return LoopbackPlace(host, int(port))


def parse_socket_mode(text: str) -> int:
    """Return the permissions of a socket. All may be let in, since each is asked for its user.

    Raises:
        ValueError: It is no mode.
    """
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= _HIGHEST_MODE:
        raise ValueError(f"{text!r} is no mode: write it in octal, as in 0660")
    return mode


@contextlib.contextmanager
def unix_listener(place: UnixPlace, mode: int) -> Iterator[socket.socket]:
    """Listen on a UNIX socket, which is gone after the block.

    It is made under another name and renamed, so that nobody connects before its permissions are right. What an earlier
    run left behind is replaced; a socket on which somebody answers is not.

    Raises:
        CommandFailed: That cannot be.
    """
    path = place.path
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    with contextlib.ExitStack() as stack:
        try:
            _refuse_occupied(path)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(temporary))
            stack.callback(temporary.unlink, missing_ok=True)
            temporary.chmod(mode)
            listener.listen(BACKLOG)
            made = temporary.lstat().st_ino
            temporary.rename(path)
        except OSError as error:
            raise CommandFailed(ExitCode.NOT_WRITTEN, f"{path} cannot be listened on: {error.strerror}") from error
        stack.callback(_remove_own, path, made)
        yield listener


@contextlib.contextmanager
def loopback_listener(place: LoopbackPlace) -> Iterator[tuple[socket.socket, LoopbackPlace]]:
    """Listen on a port; give the socket, and the place with the port that it became.

    Raises:
        CommandFailed: That cannot be.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        listener = socket.create_server((place.host, place.port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"{place.authority} cannot be listened on: {error.strerror}"
        raise CommandFailed(ExitCode.NOT_WRITTEN, message) from error
    with listener:
        yield listener, LoopbackPlace(place.host, listener.getsockname()[1])


def _refuse_occupied(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise CommandFailed(ExitCode.NOT_WRITTEN, f"{path} cannot be listened on: there is something that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise CommandFailed(ExitCode.NOT_WRITTEN, f"{path} cannot be listened on: another process answers there")


def _remove_own(path: Path, made: int) -> None:
    """Remove the socket, unless another process has put its own in place."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == made:
            path.unlink()
