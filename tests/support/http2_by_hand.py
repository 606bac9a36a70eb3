"""HTTP/2 by hand, for clients that do what no library would: RFC 9113's frames, headers in HPACK's plainest form."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from issuer_testing.spire.authority import pem_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_testing.spire.authority import Authority

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
CANCEL, ENHANCE_YOUR_CALM = 8, 11
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Server(Protocol):
    """What is called."""

    @property
    def authority(self) -> Authority:
        """Whose SVIDs it accepts, and which vouches for its own."""
        ...

    @property
    def port(self) -> int:
        """Where it listens."""
        ...


class RawHttp2:
    """One connection; its own settings are sent, the server's are acknowledged when they are read."""

    def __init__(self, server: Server, folder: Path, *, window: int = 65_535) -> None:
        svid = server.authority.issue("spiffe://conformance.test/raw")
        (folder / "raw-chain.pem").write_bytes(svid.chain_pem())
        (folder / "raw-key.pem").write_bytes(svid.key_pem())
        context = ssl.create_default_context(cadata=pem_bundle([server.authority.root]).decode())
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(folder / "raw-chain.pem", folder / "raw-key.pem")
        self._window = window
        plain = socket.create_connection(("127.0.0.1", server.port), 20)
        self._socket = context.wrap_socket(plain, server_hostname="conformance.test")
        self._buffer = b""
        self._next_stream = 1

    def __enter__(self) -> Self:
        self.write(_PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", INITIAL_WINDOW_SIZE, self._window)))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, content: bytes) -> None:
        self._socket.sendall(content)

    def call(self, path: str, body: bytes | None, *more: tuple[str, str]) -> tuple[int, bytes]:
        """Return a stream and the bytes of a call on it; without a body the request stays open."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        pseudo = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "conformance.test")]
        fields = [*pseudo, ("content-type", "application/grpc"), ("te", "trailers"), *more]
        content = frame(HEADERS, END_HEADERS, stream, b"".join(_field(*field) for field in fields))
        if body is not None:
            content += frame(DATA, END_STREAM, stream, b"\0" + len(body).to_bytes(4, "big") + body)
        return stream, content

    def read(self) -> Frame | None:
        """Return the next frame; ``None`` at the end of the connection."""
        header = self._exactly(9)
        if header is None:
            return None
        length = int.from_bytes(header[:3], "big")
        payload = self._exactly(length)
        if payload is None:
            return None
        got = Frame(header[3], header[4], int.from_bytes(header[5:], "big"), payload)
        if got.kind == SETTINGS and not got.flags & ACK:
            self.write(frame(SETTINGS, ACK, 0, b""))
        return got

    def read_until(self, kinds: set[int], stream: int | None = None, seconds: float = 20) -> Frame | None:
        """Return the next frame of these kinds; ``None`` when the connection ends before."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            got = self.read()
            if got is None or (got.kind in kinds and stream in {None, got.stream}):
                return got
        raise TimeoutError(f"no frame of {kinds} on stream {stream}")

    def ended(self, stream: int) -> bool:
        """Read to the end of a stream: trailers, or a reset."""
        while (got := self.read_until({HEADERS, DATA, RST_STREAM}, stream)) is not None:
            if got.kind == RST_STREAM or got.flags & END_STREAM:
                return True
        return False

    def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                piece = self._socket.recv(65_536)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._buffer += piece
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))


def _field(name: str, value: str) -> bytes:
    """A literal without indexing and without Huffman (RFC 7541 section 6.2.2); texts shorter than 127 bytes."""
    return b"\0" + b"".join(bytes((len(text),)) + text.encode() for text in (name, value))
