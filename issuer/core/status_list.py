"""A Token Status List (draft-ietf-oauth-status-list-20 section 4): what became of each token, a few bits for each.

The status of entry 0 is in the lowest bits of the first byte, the next one in the bits above it. The bytes are
compressed by DEFLATE in a ZLIB wrapper (RFC 1950) and written as base64url. A signed list is a JWT of its own type, so
that nobody takes it for an access token (RFC 8725 section 3.11).
"""

from __future__ import annotations

import json
import zlib
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.base64url import base64url

if TYPE_CHECKING:
    from collections.abc import Iterable

STATUS_LIST_TYPE: Final = "statuslist+jwt"
BITS: Final = (1, 2, 4, 8)
"""How many bits an entry may have."""
_BEST: Final = 9
"""The level that section 4.1 recommends. A list is compressed when it changes, and is read far more often."""


class Status(IntEnum):
    """What an entry says (section 7.1)."""

    VALID = 0
    INVALID = 1


class StatusList:
    """The statuses of a fixed number of tokens, all of them 0 at first.

    Args:
        size: How many; a multiple of 8.
        bits: For each, one of :data:`BITS`.

    Raises:
        ValueError: The size or the bits are none of those.
    """

    __slots__ = ("_bytes", "_encoded", "_per_byte", "bits", "size")

    def __init__(self, size: int, bits: int = 1) -> None:
        if bits not in BITS or size <= 0 or size % 8:
            raise ValueError("a status list has 1, 2, 4 or 8 bits an entry, and a multiple of 8 entries")
        self.size = size
        self.bits = bits
        self._per_byte = 8 // bits
        self._bytes = bytearray(size // self._per_byte)
        self._encoded = ""

    def put(self, index: int, status: int) -> None:
        """Set the status of an entry.

        Raises:
            ValueError: There is no such entry, or the status has more bits than an entry.
        """
        if not 0 <= index < self.size or not 0 <= status < 1 << self.bits:
            raise ValueError("there is no such entry in the list, or no such status")
        at, place = divmod(index, self._per_byte)
        shift = place * self.bits
        mask = (1 << self.bits) - 1 << shift
        self._bytes[at] = self._bytes[at] & ~mask | status << shift
        self._encoded = ""

    def invalidate(self, indexes: Iterable[int]) -> bool:
        """Set entries to INVALID; return whether one of them was not. For lists of one bit an entry, many at once.

        Raises:
            IndexError: There is no such entry.
        """
        changed, entries = False, self._bytes
        for index in indexes:
            at, bit = index >> 3, 1 << (index & 7)
            if not entries[at] & bit:
                entries[at] |= bit
                changed = True
        if changed:
            self._encoded = ""
        return changed

    def encoded(self) -> str:
        """Return ``lst``: the entries, compressed, as base64url. Until one changes, the same text."""
        if not self._encoded:
            self._encoded = base64url(zlib.compress(self._bytes, _BEST))
        return self._encoded


class ListTerms(NamedTuple):
    """What a signed list says beside its entries.

    Attributes:
        issuer: Our URL: the ``iss`` of the tokens.
        uri: Where the list is served, exactly as tokens name it; its ``sub``.
        aggregation_uri: Where all lists are named (section 9).
        issued_at: Unix seconds. Two different lists of one URI never have the same, so the newer one can be told.
        valid_for: Seconds until it must not be used any more.
        ttl: Seconds after which whoever keeps it should fetch it again.
    """

    issuer: str
    uri: str
    aggregation_uri: str
    issued_at: int
    valid_for: int
    ttl: int


def status_list_payload(listed: StatusList, terms: ListTerms) -> bytes:
    """Return the claims of a signed list (section 5.1), as UTF-8 JSON."""
    claims = {
        "iss": terms.issuer,
        "sub": terms.uri,
        "iat": terms.issued_at,
        "exp": terms.issued_at + terms.valid_for,
        "ttl": terms.ttl,
        "status_list": {"bits": listed.bits, "lst": listed.encoded(), "aggregation_uri": terms.aggregation_uri},
    }
    return json.dumps(claims, separators=(",", ":")).encode("ascii")
