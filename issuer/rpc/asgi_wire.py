"""gRPC over HTTP/2 as bytes: length-prefixed messages, timeouts, metadata, statuses. Pure.

The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from itertools import chain
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from google.rpc.status_pb2 import Status

    Header = tuple[bytes, bytes]
    Metadata = Iterable[tuple[str, str | bytes]]

PREFIX_BYTES = 5
"""One byte that says whether the message is compressed, four with its length."""
FIELD_OVERHEAD_BYTES = 32
"""What HTTP counts for a header field besides its name and value (RFC 9113 section 6.5.2)."""
MAX_TIMEOUT_DIGITS = 8
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = bytes(sorted(frozenset(range(0x20, 0x7F)) - {ord("%")}))
_NOT_CALLERS = frozenset({b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"host"})
"""What the protocol uses itself, and no method is shown."""


class GrpcFault(Exception):
    """A call ends with this status, before or instead of its method's own."""

    def __init__(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing_metadata = tuple(trailing_metadata)


def frame(message: bytes) -> bytes:
    """Return an uncompressed message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def message_length(prefix: bytes | bytearray, limit: int) -> int:
    """Read the prefix of a message.

    Args:
        prefix: At least ``PREFIX_BYTES``.
        limit: The largest message, in bytes.

    Raises:
        GrpcFault: When the message says that it is compressed, or larger than ``limit``.
    """
    if prefix[0]:
        # "identity" is the only encoding that the call's headers can have named by now.
        raise GrpcFault(grpc.StatusCode.INTERNAL, "a message is compressed, and the call says that none is")
    length = int.from_bytes(prefix[1:PREFIX_BYTES], "big")
    if length > limit:
        message = f"received message larger than max ({length} vs. {limit})"
        raise GrpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
    return length


def timeout_seconds(value: bytes) -> float:
    """Read a ``grpc-timeout``.

    Raises:
        GrpcFault: When it is none.
    """
    digits, unit = value[:-1], _SECONDS.get(value[-1:])
    if unit is None or len(digits) > MAX_TIMEOUT_DIGITS or not digits.isdigit():
        raise GrpcFault(grpc.StatusCode.INTERNAL, "grpc-timeout is malformed")
    return int(digits) * unit


def metadata_bytes(headers: Collection[Header]) -> int:
    """Return the size of a list of header fields as HTTP/2 counts it."""
    return len(b"".join(chain.from_iterable(headers))) + FIELD_OVERHEAD_BYTES * len(headers)


def metadata_from_headers(headers: Iterable[Header]) -> tuple[tuple[str, str | bytes], ...]:
    """Return what the caller sent as metadata; a value that cannot be read is left out."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _NOT_CALLERS:
            continue
        try:
            found.append((name.decode("ascii"), _binary(value) if name.endswith(b"-bin") else value.decode("ascii")))
        except (UnicodeDecodeError, binascii.Error):
            continue
    return tuple(found)


def status_headers(code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> list[Header]:
    """Return a status as the trailers that carry it."""
    headers = [(b"grpc-status", str(code.value[0]).encode())]
    if details:
        headers.append((b"grpc-message", percent_encoded(details)))
    return [*headers, *map(_header, metadata)]


def status_trailers(status: Status) -> list[Header]:
    """Return a ``google.rpc.Status`` as the trailers that carry it, its details included."""
    headers = [(b"grpc-status", str(status.code).encode())]
    if status.message:
        headers.append((b"grpc-message", percent_encoded(status.message)))
    return [*headers, (b"grpc-status-details-bin", b64encode(status.SerializeToString()).rstrip(b"="))]


def percent_encoded(text: str) -> bytes:
    """Encode a status message: printable ASCII but for ``%`` as it is, every other byte of its UTF-8 as ``%XX``."""
    encoded = text.encode("utf-8", "replace")
    if not encoded.translate(None, _PLAIN):
        return encoded
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in encoded)


def _header(pair: tuple[str, str | bytes]) -> Header:
    name, value = pair
    raw = value if isinstance(value, bytes) else value.encode("ascii")
    return name.encode("ascii"), b64encode(raw).rstrip(b"=") if name.endswith("-bin") else raw


def _binary(value: bytes) -> bytes:
    # Senders leave the padding out, receivers must accept both.
    return b64decode(value + b"=" * (-len(value) % 4), validate=True)
