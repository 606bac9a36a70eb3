"""HTTP/2 by hand over mutual TLS: a client that behaves as no library lets it."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.authority import pem_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.deployment import Deployment

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
FRAME_HEADER = 9
ISSUE_TOKEN = "/issuer_api.v1.IssuerService/IssueToken"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def no_window() -> bytes:
    """Return a SETTINGS frame that lets the server send no byte of any answer (RFC 9113 section 6.5.2)."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))


def acknowledged() -> bytes:
    """Return a SETTINGS frame that takes the server's for known."""
    return frame(SETTINGS, ACK, 0, b"")


def ping() -> bytes:
    """Return a PING frame."""
    return frame(PING, 0, 0, bytes(8))


def call_headers(stream: int, path: str = ISSUE_TOKEN) -> bytes:
    """Return the HEADERS of a gRPC call, each a literal that is not indexed (RFC 7541 section 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": ISSUER_DNS_NAME,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def message(stream: int, body: bytes, *, sent: int | None = None) -> bytes:
    """Return the DATA of a message; with ``sent``, only so many of its bytes, and the stream stays open."""
    whole = b"\0" + struct.pack(">I", len(body)) + body
    return frame(DATA, END_STREAM, stream, whole) if sent is None else frame(DATA, 0, stream, whole[:sent])


@contextmanager
def tls_connection(deployment: Deployment, folder: Path) -> Iterator[ssl.SSLSocket]:
    """Connect to the issuer as the settlement workload. What is sent and read is up to the caller."""
    svid = deployment.svid()
    (folder / "chain.pem").write_bytes(svid.chain_pem())
    (folder / "key.pem").write_bytes(svid.key_pem())
    context = ssl.create_default_context(cadata=pem_bundle([deployment.authority.authority.root]).decode())
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2"])
    with ExitStack() as stack:
        plain = stack.enter_context(tcp_connection(deployment))
        yield stack.enter_context(context.wrap_socket(plain, server_hostname=ISSUER_DNS_NAME))


def tcp_connection(deployment: Deployment) -> socket.socket:
    """Connect, and say nothing."""
    host, _, port = deployment.issuer.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def closed_within(connection: socket.socket, seconds: float) -> bool:
    """Read until the peer closes the connection; return whether it did so in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:  # reset
        return True
    return True


def told_to_go(connection: socket.socket, seconds: float) -> bool:
    """Read frames until there is a GOAWAY; return whether there was one in time."""
    connection.settimeout(seconds)
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
            while len(received) >= FRAME_HEADER and len(received) >= (size := _size(received)):
                if received[3] == GOAWAY:
                    return True
                received = received[size:]
    except OSError:
        pass
    return False


def _size(received: bytes) -> int:
    return FRAME_HEADER + int.from_bytes(received[:3], "big")


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
