"""A signed status list (draft-ietf-oauth-status-list-20 sections 4, 5 and 8.3), read strictly. Pure.

1. The text is a JWS in compact serialisation with ``alg``, ``kid`` and ``typ`` and nothing else in its header, and
   ``typ`` is ``statuslist+jwt``: an access token is no list, and a list no access token (RFC 8725 section 3.11).
2. ``alg`` is one that is taken, and the one that the key is for. The key is the issuer's.
3. The signature holds. From here on it is the issuer who speaks.
4. ``sub`` is the address that the token names, exactly: else one list could stand in for another.
5. ``iss``, where it is there, is the issuer.
6. ``iat`` is not ahead and ``exp`` is not over, give or take the leeway; ``ttl`` is a positive number.
7. ``bits`` is 1, 2, 4 or 8, and ``lst`` is base64url of one whole ZLIB stream that is not longer than a list may be.

Not checked: that no newer list was seen. The cache does.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent_client.verification.base64url import base64url_decoded
from agent_client.verification.compact import STATUS_LIST, parse_compact
from agent_client.verification.errors import RejectionReason, TokenRejected
from agent_client.verification.strict_json import strict_object

if TYPE_CHECKING:
    from agent_client.verification.algorithms import VerificationKey
    from agent_client.verification.compact import UnverifiedToken
    from agent_client.verification.verified_token import VerifiedToken

MAX_LIST_BYTES: Final = 128 * 1024
"""A list of 2**20 entries of one bit, the largest of the draft's own. Ours has an eighth. Whatever inflates to more is
no list, however small it came: DEFLATE makes a thousand of one."""
MAX_TEXT_BYTES: Final = 256 * 1024
"""A list of that size that cannot be compressed, encoded twice."""
_BITS: Final = (1, 2, 4, 8)
_LAST_MOMENT: Final = 253402300799  # 9999-12-31T23:59:59Z


class ListFault(Exception):
    """It is no list that can be used. The message is for the log."""


class Place(NamedTuple):
    """Where a token says that its status is."""

    uri: str
    idx: int


class ListRules(NamedTuple):
    """What a list is held to: who its issuer is, which ``alg`` is taken, and by how many seconds clocks may differ."""

    issuer: str
    algorithms: frozenset[str]
    leeway: float


@dataclass(frozen=True, slots=True)
class ReadList:
    """A list whose rules hold.

    Attributes:
        issued_at: Its ``iat``, Unix seconds.
        expires_at: Its ``exp``.
        ttl: Seconds after which it should be fetched again.
        bits: For each entry.
    """

    issued_at: int
    expires_at: int
    ttl: int
    bits: int
    _entries: bytes = field(repr=False)

    def status(self, index: int) -> int | None:
        """Return the status of an entry; ``None`` when there is no such entry."""
        at, place = divmod(index, 8 // self.bits)
        if not 0 <= at < len(self._entries):
            return None
        return self._entries[at] >> place * self.bits & (1 << self.bits) - 1


def place_of(token: VerifiedToken) -> Place | None:
    """Return where the status of a token is; ``None`` when it has none, which is for policy to say.

    Raises:
        TokenRejected: CLAIMS_MALFORMED: it has one that cannot be looked up, or that its issuer does not serve.
    """
    if "status" not in token.claims:
        return None
    match token.claims["status"]:
        # A list elsewhere is none of this issuer's, and fetching it would be a request of the token's choice.
        case {"status_list": {"idx": int(index), "uri": str(uri)}} if (
            type(index) is int and index >= 0 and uri.startswith(token.issuer + "/")
        ):
            return Place(uri, index)
    raise TokenRejected(RejectionReason.CLAIMS_MALFORMED, "status")


def read_header_of(text: str, algorithms: frozenset[str]) -> UnverifiedToken:
    """Apply the rules that need no key: 1, and the first half of 2.

    Raises:
        ListFault: One is broken.
    """
    try:
        unverified = parse_compact(text, {}, types=STATUS_LIST, max_bytes=MAX_TEXT_BYTES)  # 1
    except TokenRejected as rejected:
        raise ListFault(f"it is no signed status list ({rejected.reason})") from None
    if unverified.header.algorithm not in algorithms:  # 2
        raise ListFault("its alg is not one that is taken")
    return unverified


def read_list(unverified: UnverifiedToken, key: VerificationKey, uri: str, rules: ListRules, now: float) -> ReadList:
    """Apply the rules from the second half of 2 on, and return the list.

    Args:
        unverified: What :func:`read_header_of` returned.
        key: The issuer's key with its ``kid``.
        uri: Where it was fetched, as the token names it.
        rules: What else it is held to.
        now: Unix seconds.

    Raises:
        ListFault: A rule is broken.
    """
    if unverified.header.algorithm != key.algorithm:  # 2
        raise ListFault("its alg is not the one that its key is for")
    if not key.verifies(unverified.signature, unverified.signing_input):  # 3
        raise ListFault("its signature does not hold")
    claims = strict_object(unverified.payload) or {}
    if claims.get("sub") != uri:  # 4
        raise ListFault("its sub is not the address that the token names")
    if claims.get("iss", rules.issuer) != rules.issuer:  # 5
        raise ListFault("it is of another issuer")
    issued_at, expires_at, ttl = (_seconds(claims, claim) for claim in ("iat", "exp", "ttl"))
    if now < issued_at - rules.leeway:  # 6
        raise ListFault("its iat is in the future")
    if now >= expires_at + rules.leeway:
        raise ListFault("it has expired")
    bits, entries = _entries_of(claims)  # 7
    return ReadList(issued_at, expires_at, ttl, bits, entries)


def _seconds(claims: dict[str, Any], claim: str) -> int:
    seconds = claims.get(claim)
    if type(seconds) is not int or not 0 < seconds <= _LAST_MOMENT:  # a bool is an int to isinstance
        raise ListFault(f"its {claim} is no positive whole number of seconds")
    return seconds


def _entries_of(claims: dict[str, Any]) -> tuple[int, bytes]:
    match claims.get("status_list"):
        case {"bits": int(bits), "lst": str(lst)} if type(bits) is int and bits in _BITS and lst.isascii():
            data = base64url_decoded(lst.encode("ascii"))
            if data is not None:
                return bits, inflated(data)
    raise ListFault("its status_list has no bits and no lst that can be read")


def inflated(data: bytes) -> bytes:
    """Return what a whole ZLIB stream holds, if that is at least a byte and at most :data:`MAX_LIST_BYTES`.

    Raises:
        ListFault: It is no such stream. No more than one byte beyond the bound was ever unpacked.
    """
    stream = zlib.decompressobj()
    try:
        entries = stream.decompress(data, MAX_LIST_BYTES + 1)
    except zlib.error:
        raise ListFault("its lst is no ZLIB stream") from None
    if len(entries) > MAX_LIST_BYTES:
        raise ListFault(f"its lst inflates to more than {MAX_LIST_BYTES} bytes")
    if not entries or not stream.eof or stream.unused_data or stream.unconsumed_tail:
        raise ListFault("its lst is no whole ZLIB stream")
    return entries
