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
        _end(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            answers = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            answers.start()
            self._pass_on_until_cut(client, server)
            answers.join()

    def _pass_on_until_cut(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                cut = self.cut and b"COMMIT" in data
                if cut:
                    self.cuts += 1  # before anybody can notice
                    client.shutdown(socket.SHUT_RDWR)  # the answer finds nobody
                server.sendall(data)
                if cut:
                    break
        _end(client, server)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _end(source, target)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
