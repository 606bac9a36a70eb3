"""The token of somebody else, on whose behalf a workload asks for one of its own (RFC 8693)."""

from __future__ import annotations

from enum import Enum
from typing import Any, Never
from urllib.parse import quote

from agent_client.access_token import AccessToken
from agent_client.token_checks import unverified_claims
from issuer_api.v1 import issuer_service_pb2 as pb


class SubjectTokenType(Enum):
    """What a subject token is."""

    ACCESS_TOKEN = pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN
    """An access token of the same issuer: one that a caller presented, or one's own."""
    JWT_SVID = pb.SUBJECT_TOKEN_TYPE_JWT_SVID
    """A JWT-SVID whose only audience is the issuer."""
    ID_TOKEN = pb.SUBJECT_TOKEN_TYPE_ID_TOKEN
    """An ID token of an OpenID provider that the issuer knows."""


class SubjectToken:
    """A subject token. It prints as nothing and cannot be pickled; two of the same text and type are equal.

    Its claims are read, not verified: the issuer does that.

    Args:
        token: The token.
        type_: What it is.

    Raises:
        ValueError: It is empty.
    """

    __slots__ = ("_text", "ends_at", "name", "type")

    def __init__(self, token: str | AccessToken, type_: SubjectTokenType = SubjectTokenType.ACCESS_TOKEN) -> None:
        self._text = token.reveal() if isinstance(token, AccessToken) else token
        if not self._text:
            raise ValueError("a subject token is empty")
        self.type = type_
        claims = unverified_claims(self._text)
        self.ends_at: int | None = claims["exp"] if type(claims.get("exp")) is int else None
        """Its ``exp``, Unix seconds; ``None`` where that cannot be read."""
        self.name = _name(claims, type_)
        """The ``sub`` of a token on its behalf; ``None`` where that cannot be read."""

    def reveal(self) -> str:
        """Return the token itself, for the issuer."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubjectToken) and (self._text, self.type) == (other._text, other.type)

    def __hash__(self) -> int:
        return hash((self._text, self.type))

    def __repr__(self) -> str:
        return f"SubjectToken(type={self.type.name})"

    def __reduce__(self) -> Never:
        """Refuse to be pickled: a pickle holds the text in the clear."""
        raise TypeError("a token is not pickled: its text leaves the process only by reveal()")


def _name(claims: dict[str, Any], type_: SubjectTokenType) -> str | None:
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(subject, str):
        return None
    if type_ is not SubjectTokenType.ID_TOKEN:
        return subject
    try:
        return f"{issuer}#{quote(subject, safe='')}" if isinstance(issuer, str) else None
    except UnicodeEncodeError:  # a lone surrogate, which the issuer does not take
        return None
