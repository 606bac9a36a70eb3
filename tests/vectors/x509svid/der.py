"""Just enough DER (X.690 section 8.1) to break a certificate in ways that no certificate library agrees to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER, BIT_STRING, SEQUENCE, EXTENSIONS = 0x02, 0x03, 0x30, 0xA3


def encode(tag: int, inside: bytes) -> bytes:
    """Return one element."""
    if len(inside) < 0x80:
        return bytes([tag, len(inside)]) + inside
    length = len(inside).to_bytes((len(inside).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + inside


def elements(row: bytes) -> Iterator[bytes]:
    """Yield the elements that lie one after the other, each with its tag and length."""
    while row:
        header, size = _header(row)
        yield row[: header + size]
        row = row[header + size :]


def content(element: bytes) -> bytes:
    """Return what is inside an element."""
    header, size = _header(element)
    return element[header : header + size]


def children(element: bytes) -> list[bytes]:
    """Return the elements inside a constructed element."""
    return list(elements(content(element)))


def _header(element: bytes) -> tuple[int, int]:
    first = element[1]
    if first < 0x80:
        return 2, first
    length = first & 0x7F
    return 2 + length, int.from_bytes(element[2 : 2 + length], "big")


def with_child(sequence: bytes, position: int, child: bytes) -> bytes:
    """Return the element with one of its children replaced."""
    parts = children(sequence)
    parts[position] = child
    return encode(sequence[0], b"".join(parts))


def with_extensions_repeated(tbs: bytes, oid: bytes) -> bytes:
    """Return a TBSCertificate in which the extension with this OID (as DER) stands twice."""
    parts = children(tbs)
    (listed,) = children(parts[-1])
    repeated = [extension for extension in children(listed) if oid in extension]
    return with_child(
        tbs, len(parts) - 1, encode(EXTENSIONS, encode(SEQUENCE, b"".join([*children(listed), *repeated])))
    )


def signed(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Return the Certificate."""
    return encode(SEQUENCE, tbs + algorithm + encode(BIT_STRING, b"\0" + signature))
