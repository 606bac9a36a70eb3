"""A token of an OIDC issuer as text: JWS compact serialisation (RFC 7515 section 7.1), read strictly. Pure.

Nothing that comes from here is verified yet. No header member is obeyed: it names a key among those that the issuer
publishes, and an algorithm that must be that key's own and be allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent_client.verification.base64url import base64url_decoded
from agent_client.verification.compact import KEY_ID
from agent_client.verification.strict_json import strict_object
from issuer.core.assertion import AssertionFault, AssertionRefused

if TYPE_CHECKING:
    from agent_client.verification.algorithms import VerificationKey

MAX_TOKEN_CHARACTERS: Final = 16 * 1024
"""An ID token has one or two thousand; with the groups of a large directory, some ten thousand."""
ID_TOKEN_TYPES: Final = frozenset({"", "jwt"})
"""ID tokens have ``typ`` JWT or none (RFC 7519 section 5.1). Others, as at+jwt, are other kinds (RFC 8725 3.11)."""
_MEMBERS: Final = frozenset({"alg", "kid", "typ", "x5t"})
"""``x5t`` is a thumbprint which some providers add; nothing looks at it. With ``jwk``, ``jku``, ``x5c`` or ``x5u`` the
token would bring its own key, and ``crit`` would have us understand what we do not (RFC 7515 section 4.1)."""


class SignedText(NamedTuple):
    """The parts of a token, none of them verified.

    Attributes:
        algorithm: Its ``alg``.
        key_id: Its ``kid``.
        type: Its ``typ`` in lower case; empty for none.
        claims: What it claims.
        signing_input: What the signature is over.
        signature: The signature.
    """

    algorithm: str
    key_id: str
    type: str
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "SignedText()"

    def check_signature(self, key: VerificationKey, allowed: frozenset[str]) -> None:
        """Hold the signature to a key.

        Raises:
            AssertionRefused: The algorithm is not allowed or not the key's own, or the signature does not hold.
        """
        if self.algorithm not in allowed or self.algorithm != key.algorithm:
            raise AssertionRefused(AssertionFault.ALGORITHM_NOT_ALLOWED)
        if not key.verifies(self.signature, self.signing_input):
            raise AssertionRefused(AssertionFault.SIGNATURE_INVALID)


def read_signed_text(text: str) -> SignedText:
    """Take a token apart.

    Raises:
        AssertionRefused: TOO_LARGE, MALFORMED or HEADER_NOT_ALLOWED.
    """
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise AssertionRefused(AssertionFault.TOO_LARGE)
    parts = text.encode("ascii").split(b".", 3) if text.isascii() else []
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise AssertionRefused(AssertionFault.MALFORMED)
    header, claims, signature = _object(parts[0]), _object(parts[1]), base64url_decoded(parts[2])
    if not header.keys() <= _MEMBERS:
        raise AssertionRefused(AssertionFault.HEADER_NOT_ALLOWED)
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(kind, str) and signature):
        raise AssertionRefused(AssertionFault.MALFORMED)
    if not KEY_ID.fullmatch(key_id):
        raise AssertionRefused(AssertionFault.MALFORMED)
    return SignedText(algorithm, key_id, kind.lower(), claims, parts[0] + b"." + parts[1], signature)


def _object(encoded: bytes) -> dict[str, Any]:
    data = base64url_decoded(encoded)
    members = None if data is None else strict_object(data)
    if members is None:
        raise AssertionRefused(AssertionFault.MALFORMED)
    return members
