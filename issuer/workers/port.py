"""The port that workers share, held by the supervisor, so that no worker and nobody else can take it away."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

from issuer.rpc.listener import AddressInUse

if TYPE_CHECKING:
    from types import TracebackType


class ReservedPort:
    """Binds an address without listening, for workers of the same user to listen on by SO_REUSEPORT.

    What is bound and does not listen gets no connections. Whoever listens there already is found first, by asking for
    the address alone: with SO_REUSEPORT two issuers would share it without a word.

    Args:
        listen: ``host:port``; port 0 takes a free one.

    Attributes:
        address: The same with the port that was taken.
    """

    def __init__(self, listen: str) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)
        self.address = listen

    def __enter__(self) -> Self:
        try:
            if self._port:
                self._bound(shared=False).close()
            self._socket = self._bound(shared=True)
        except OSError as error:
            raise AddressInUse(self.address) from error
        self.address = f"{self._host}:{self._socket.getsockname()[1]}"
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _bound(self, *, shared: bool) -> socket.socket:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            self._host.strip("[]"), self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound
