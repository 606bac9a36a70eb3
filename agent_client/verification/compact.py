"""A token as text: JWS compact serialisation (RFC 7515 section 7.1) and its header, read strictly. Pure.

Nothing that comes from here is verified yet. The claims stay bytes, which nobody parses before their signature holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent_client.token_checks import MAX_TOKEN_BYTES
from agent_client.verification.base64url import base64url_decoded
from agent_client.verification.errors import RejectionReason, TokenRejected
from agent_client.verification.strict_json import strict_object

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_ID = re.compile(r"[\x21-\x7e]{1,256}")
"""A ``kid``. Ours is a thumbprint of 43 characters; others use certificate fingerprints and names."""

ACCESS_TOKEN: Final = frozenset({"at+jwt", "application/at+jwt"})
"""RFC 9068 section 4. A media type is compared without regard to case (RFC 2045 section 5.1)."""
STATUS_LIST: Final = frozenset({"statuslist+jwt", "application/statuslist+jwt"})
"""draft-ietf-oauth-status-list-20 section 5.1."""
_KEYS_IN_HEADER = frozenset({"jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256"})
"""RFC 7515 sections 4.1.2 to 4.1.8, but for ``kid``: a verifier that follows one lets the token choose its own key."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header that is allowed: its type is right and it has nothing else."""

    algorithm: str
    key_id: str


class UnverifiedToken(NamedTuple):
    """The parts of a token. A named tuple, because one is made for every token.

    Attributes:
        header: What its header says.
        encoded_header: The header's text.
        signing_input: The bytes that the signature is over.
        payload: The claims, not parsed.
        signature: The signature, not verified.
    """

    header: Header
    encoded_header: bytes
    signing_input: bytes
    payload: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "UnverifiedToken()"


def parse_compact(
    token: str,
    known_headers: Mapping[bytes, Header],
    *,
    types: frozenset[str] = ACCESS_TOKEN,
    max_bytes: int = MAX_TOKEN_BYTES,
) -> UnverifiedToken:
    """Take a token apart.

    Args:
        token: The text, without scheme or white space.
        known_headers: Headers by their text that were read before, all of these types.
        types: The ``typ`` values that are taken.
        max_bytes: How long the text may be.

    Raises:
        TokenRejected: TOO_LARGE, MALFORMED, or what :func:`read_header` gives.
    """
    if len(token) > max_bytes:
        raise TokenRejected(RejectionReason.TOO_LARGE)
    if not token.isascii():
        raise TokenRejected(RejectionReason.MALFORMED)
    text = token.encode("ascii")
    parts = text.split(b".", 3)
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise TokenRejected(RejectionReason.MALFORMED)
    encoded_header, encoded_payload, encoded_signature = parts
    header = known_headers.get(encoded_header) or read_header(encoded_header, types)
    payload, signature = base64url_decoded(encoded_payload), base64url_decoded(encoded_signature)
    if payload is None or signature is None:
        raise TokenRejected(RejectionReason.MALFORMED)
    signing_input = text[: len(encoded_header) + 1 + len(encoded_payload)]
    return UnverifiedToken(header, encoded_header, signing_input, payload, signature)


def read_header(encoded: bytes, types: frozenset[str] = ACCESS_TOKEN) -> Header:
    """Read a header: ``alg``, ``kid`` and ``typ``, all three and nothing else, of one of some types.

    Raises:
        TokenRejected: MALFORMED, CRITICAL_EXTENSION, KEY_IN_HEADER, HEADER_MEMBER_UNKNOWN or TYPE_WRONG.
    """
    data = base64url_decoded(encoded)
    header = None if data is None else strict_object(data)
    if header is None:
        raise TokenRejected(RejectionReason.MALFORMED)
    if reason := _not_allowed(header, types):
        raise TokenRejected(reason)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise TokenRejected(RejectionReason.MALFORMED)
    return Header(algorithm, key_id)


def _not_allowed(header: dict[str, Any], types: frozenset[str]) -> RejectionReason | None:
    if "crit" in header:
        return RejectionReason.CRITICAL_EXTENSION
    if not _KEYS_IN_HEADER.isdisjoint(header):
        return RejectionReason.KEY_IN_HEADER
    if not header.keys() <= {"alg", "kid", "typ"}:
        return RejectionReason.HEADER_MEMBER_UNKNOWN
    typ = header.get("typ")
    if not isinstance(typ, str) or not typ.isascii() or typ.lower() not in types:
        return RejectionReason.TYPE_WRONG
    return None
