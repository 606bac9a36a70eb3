"""The socket on which a server that is given one listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from issuer.rpc.listener import AddressInUse

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.rpc.settings import RpcSettings

BACKLOG = 1024
"""Connections that may wait to be accepted, as h2corn has it by default."""
KEEPALIVE_PROBES = 4
"""Within ``keepalive_timeout``, so that one lost packet costs no connection."""
MOST_KEEPALIVE_SECONDS = 32_767
"""The most that Linux takes (``tcp.h``, MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL)."""


def listening_socket(settings: RpcSettings) -> socket.socket:
    """Take the address of ``settings``.

    Raises:
        AddressInUse: When it cannot be taken.
    """
    try:
        return _listening_socket(settings)
    except OSError as error:
        raise AddressInUse(settings.listen) from error


def _listening_socket(settings: RpcSettings) -> socket.socket:
    host, _, port = settings.listen.rpartition(":")
    host = host.strip("[]")
    [(family, _, _, _, address), *_] = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # SO_REUSEPORT only among workers: it would let two issuers share one port without a word.
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(
        address[:2], family=family, backlog=BACKLOG, reuse_port=settings.shares_port, dualstack_ipv6=both
    )
    listener.setblocking(False)  # noqa: FBT003 - the socket module's own
    _look_after_silent_peers(listener, settings)
    return listener


def _look_after_silent_peers(listener: socket.socket, settings: RpcSettings) -> None:
    """Have the kernel ask silent peers whether they are there: h2corn sends no pings. Accepted sockets inherit it."""
    idle, timeout = (_seconds(value) for value in (settings.keepalive_time, settings.keepalive_timeout))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, timeout // KEEPALIVE_PROBES))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def _seconds(duration: timedelta) -> int:
    return min(max(1, round(duration.total_seconds())), MOST_KEEPALIVE_SECONDS)
