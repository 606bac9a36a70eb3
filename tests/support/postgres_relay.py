"""Stands between an issuer and PostgreSQL, and can cut a connection in the middle of a commit."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class PostgresRelay:
    """Relays a UNIX socket. ``folder`` is the ``host`` of a connection string.

    Attributes:
        cut: From now on a connection is cut as soon as COMMIT was passed on to the server.
        cuts: How many were.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self.cut = False
        self.cuts = 0
        self._server = str(server / _SOCKET)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while data := source.recv(65_536):
                cut = to_server and self.cut and b"COMMIT" in data
                if cut:
                    source.shutdown(socket.SHUT_RDWR)  # the answer finds nobody
                target.sendall(data)
                if cut:
                    self.cuts += 1
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
