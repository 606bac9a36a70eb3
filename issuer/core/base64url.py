"""base64url without padding (RFC 7515 section 2), strict in what it reads."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/...")
"""The alphabet of plain base64 and padding turn into a byte that no base64 has, so that they are refused."""


def base64url_bytes(data: bytes) -> bytes:
    """Encode ``data``."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def base64url(data: bytes) -> str:
    """Encode ``data`` as text."""
    return base64url_bytes(data).decode("ascii")


def decode_base64url(encoded: bytes) -> bytes:
    """Decode; the one encoding that :func:`base64url_bytes` produces is the one that is accepted.

    Raises:
        ValueError: Padding, another alphabet, an impossible length, or spare bits that are not zero.
    """
    try:
        data = a2b_base64(encoded.translate(_FROM_URL) + b"=" * (-len(encoded) % 4), strict_mode=True)
    except Error as error:
        raise ValueError(f"not base64url: {error}") from None
    if base64url_bytes(data) != encoded:
        raise ValueError("not base64url: spare bits are set")
    return data
