"""base64url without padding (RFC 7515 section 2)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = str.maketrans("-_", "+/")


def base64url_bytes(data: bytes) -> bytes:
    """Encode ``data``."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def base64url(data: bytes) -> str:
    """Encode ``data`` as text."""
    return base64url_bytes(data).decode("ascii")


def base64url_decoded(text: str) -> bytes:
    """Return what ``text`` encodes, if this is the one text that does.

    Raises:
        ValueError: Padding, white space, other characters, or bits left over.
    """
    data = a2b_base64(text.translate(_FROM_URL) + "=" * (-len(text) % 4))
    if base64url(data) != text:
        raise ValueError("is not base64url without padding")
    return data
