"""How commands come to the process that owns the SQLite ledger, and answers go: messages, each with its length."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.ledger.sqlite_store import SqliteStore

LENGTH: Final = struct.Struct("!I")
READ_BYTES: Final = 64 * 1024
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Of a connection that no longer reads its answers, which come one to a command: it is of no use, and is closed."""
BUFFER_BYTES: Final = 4 * 1024
"""What is reserved for a message that is packed, and grows with it; msgpack's own 256 KiB cost more than an answer."""
_CREDENTIALS: Final = struct.Struct("3i")


class Connection:
    """One that gives commands. Never waits for it, so that one that stopped holds up nobody.

    Attributes:
        socket: Its socket.
        store: The open ledger that it has seen.
        has_ended: It is gone, or of no use.
        is_waited_for: Whether its owner waits until it takes more; kept by the owner.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own
        self.socket = connection
        self.store: SqliteStore | None = None
        self.has_ended = False
        self.is_waited_for = False
        self._read = bytearray()
        self._unsent = bytearray()

    @property
    def is_behind(self) -> bool:
        """Whether answers wait to be sent."""
        return bool(self._unsent)

    def read(self) -> list[list[Any]]:
        """Return the commands that have come whole, as far as one look goes: one that never ceases holds up nobody."""
        try:
            some = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            some = b""
        self.has_ended = self.has_ended or not some
        self._read += some
        return list(self._whole())

    def send(self, message: object) -> None:
        """Send as much as goes at once, and keep the rest for :meth:`flush`."""
        self._unsent += framed(message)
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now."""
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            self.has_ended = self.has_ended or len(self._unsent) > MAX_UNREAD_BYTES
        except OSError:
            self.has_ended = True

    def _whole(self) -> Iterator[list[Any]]:
        while len(self._read) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._read)[0]
            if len(self._read) < end:
                return
            command: list[Any] = msgpack.unpackb(bytes(self._read[LENGTH.size : end]), raw=False)
            del self._read[:end]
            yield command


def framed(message: object) -> bytes:
    """Return a message with its length before it."""
    packed: bytes = msgpack.Packer(use_bin_type=True, buf_size=BUFFER_BYTES).pack(message)
    return LENGTH.pack(len(packed)) + packed


def is_of_this_user(connection: socket.socket) -> bool:
    """Return whether a process of this very user connected, or root; the folder of the socket lets no other come."""
    with suppress(OSError):
        _, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        return user in (os.geteuid(), 0)
    return False
