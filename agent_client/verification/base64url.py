"""base64url without padding (RFC 7515 section 2), where each value has exactly one spelling. Pure."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
"""To plain base64; what only plain base64 has becomes what neither has."""
_LAST = {
    0: frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    2: frozenset(b"AQgw"),
    3: frozenset(b"AEIMQUYcgkosw048"),
}
"""What the last character may be, by the number of characters beyond whole groups of four: of its six bits, two
characters leave four over and three leave two, which are zero in the one spelling. One beyond is no encoding at all."""


def base64url(data: bytes) -> bytes:
    """Encode ``data``."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def base64url_decoded(text: bytes) -> bytes | None:
    """Return what ``text`` encodes, if this is the one text that does; else ``None``.

    Padding, white space, other characters, and bits left over in the last one are refused. An empty text is, too.
    """
    beyond = len(text) % 4
    if not text or text[-1] not in _LAST.get(beyond, ()):
        return None
    try:
        return a2b_base64(text.translate(_FROM_URL) + b"=" * (-beyond % 4), strict_mode=True)
    except Error:
        return None
