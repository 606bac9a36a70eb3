"""The listening socket, opened by the parent: a taken port is told at start, and a crash of the child keeps it."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from issuer.public_http.settings import PublicHttpError

if TYPE_CHECKING:
    from issuer.public_http.settings import PublicHttpSettings

BACKLOG = 512
MAX_PORT = 65535
_REMEDIES = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
    errno.EACCES: "this user may not use that port: choose one above 1023",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
}


def open_listener(settings: PublicHttpSettings) -> socket.socket:
    """Listen, and return the socket.

    Raises:
        PublicHttpError: The address cannot be used, or plain HTTP would leave this machine.
    """
    host, _, port = settings.listen.rpartition(":")
    try:
        family, address = _resolve(host.strip("[]"), _port(port))
        _refuse_plain_http(settings, address[0])
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, str(error))
        raise PublicHttpError(f"[http] listen: cannot listen on {settings.listen}: {remedy}") from error


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= MAX_PORT:
        raise ValueError(f"a port is at most {MAX_PORT}")
    return port


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, (str(address[0]), port)


def _refuse_plain_http(settings: PublicHttpSettings, address: str) -> None:
    if settings.scheme == "https" or settings.behind_tls_proxy or ip_address(address).is_loopback:
        return
    raise PublicHttpError(
        f"[http] listen: {settings.listen} would serve the key set by plain HTTP, where others could replace it; "
        "set tls_certificate and tls_key, or behind_tls_proxy = true where a proxy in front ends TLS, "
        "or listen on 127.0.0.1"
    )
