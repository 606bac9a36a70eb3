"""base64url without padding (RFC 7515 section 2), where each value has exactly one spelling. Pure."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def base64url(data: bytes) -> bytes:
    """Encode ``data``."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def base64url_decoded(text: bytes) -> bytes | None:
    """Return what ``text`` encodes, if this is the one text that does; else ``None``.

    Padding, white space, other characters, and bits left over in the last one are refused: encoding the result again
    must give the same text.
    """
    try:
        data = a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except Error:
        return None
    return data if base64url(data) == text else None
