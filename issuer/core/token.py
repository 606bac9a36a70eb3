"""The token as text: the JWS compact serialisation (RFC 7515 section 7.1), and a holder that does not leak it."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from typing import Never

from issuer.core.base64url import base64url_bytes

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, the header's typ and not a secret
TOKEN_SCHEME = "Bearer"  # noqa: S105 - RFC 6750 section 2.1, an authentication scheme


class Token:
    """A signed token. It prints as nothing; :meth:`reveal` is the only way to its text."""

    __slots__ = ("__text", "sha256")

    sha256: bytes
    """SHA-256 over the token's ASCII text, 32 bytes: what a record may hold."""

    def __init__(self, compact: bytes) -> None:
        """Hold a JWS in compact serialisation. It is not verified here."""
        self.__text = compact.decode("ascii")
        self.sha256 = sha256(compact).digest()

    def reveal(self) -> str:
        """Return the token itself. For the answer to its caller, and nothing else."""
        return self.__text

    def __repr__(self) -> str:
        return "Token()"

    def __reduce__(self) -> Never:
        """Refuse to be pickled: a pickle holds the text in the clear."""
        raise TypeError("a token is not pickled: its text leaves the process only by reveal()")


def signing_input(algorithm: str, key_id: str, payload: bytes, typ: str = TOKEN_TYPE) -> bytes:
    """Return what is signed: the encoded header and payload, joined by a dot (RFC 7515 section 5.1).

    Args:
        algorithm: The signer's JWS ``alg``.
        key_id: The signer's ``kid``.
        payload: The claims as UTF-8 JSON.
        typ: What is signed: an access token, or another kind, never taken for one (RFC 8725 section 3.11).
    """
    return _encoded_header(algorithm, key_id, typ) + base64url_bytes(payload)


def compact_token(signed: bytes, signature: bytes) -> Token:
    """Join a signing input and the raw signature over it (RFC 7515 section 7.1)."""
    return Token(b"%b.%b" % (signed, base64url_bytes(signature)))


@lru_cache(maxsize=64)  # one entry for each key that signs; a process sees a handful in its life
def _encoded_header(algorithm: str, key_id: str, typ: str) -> bytes:
    header = {"alg": algorithm, "kid": key_id, "typ": typ}
    return base64url_bytes(json.dumps(header, separators=(",", ":")).encode()) + b"."
