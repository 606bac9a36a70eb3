"""base64url without padding (RFC 7515 section 2)."""

from __future__ import annotations

from binascii import b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")


def base64url_bytes(data: bytes) -> bytes:
    """Encode ``data``."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def base64url(data: bytes) -> str:
    """Encode ``data`` as text."""
    return base64url_bytes(data).decode("ascii")
