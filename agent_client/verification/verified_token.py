"""A token that was verified: what a resource server may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_client.verification.errors import InsufficientScope

if TYPE_CHECKING:
    from collections.abc import Mapping


class Actor(NamedTuple):
    """Who acts for the subject: ``sub`` and ``iss`` of one object of the ``act`` claim (RFC 8693 section 4.1)."""

    subject: str
    issuer: str


class VerifiedToken(NamedTuple):
    """What a verified token says. It does not hold the token. A named tuple, because one is made for every token.

    Only :class:`~agent_client.verification.verifier.TokenVerifier` makes one; whoever makes one by hand, in a test say,
    vouches for it.

    Attributes:
        issuer: The ``iss``, the one that was expected.
        subject: The ``sub``: the SPIFFE ID of whom the caller acts as; where others act for a person or program that an
            OpenID provider knows, the ``iss`` of that, ``#``, and the ``sub`` there, percent-encoded.
        client_id: The SPIFFE ID of who asked for the token, and presents it; the subject, unless it acts for another.
        audience: The ``aud``, the one that was expected.
        scopes: What the token allows; empty when it has no ``scope``.
        token_id: The ``jti``, the token's identity: its text is none, for a signature can be written in two ways.
        application: On whose behalf the caller acts, as policy allowed it to claim; ``None`` when of nobody.
        certificate_thumbprint: The ``cnf.x5t#S256``, which is the presented certificate's; ``None`` when not bound.
        development: The token is of a development authority, which attests nobody.
        claims: All claims, those above included. What is nested in them must not be changed.
        actors: Who acts for the subject, the current one first, and through whom: history, for the log. Only the first
            is who calls now, and only ``scopes`` say what it may do (RFC 8693 section 4.1). Empty where nobody does.
    """

    issuer: str
    subject: str
    client_id: str
    audience: str
    scopes: tuple[str, ...]
    token_id: str
    application: str | None
    certificate_thumbprint: str | None
    development: bool
    claims: Mapping[str, Any]
    actors: tuple[Actor, ...] = ()

    @property
    def issued_at(self) -> datetime:
        """The ``iat`` (UTC)."""
        return datetime.fromtimestamp(self.claims["iat"], UTC)

    @property
    def expires_at(self) -> datetime:
        """The ``exp`` (UTC). Leeway may have accepted it a moment later."""
        return datetime.fromtimestamp(self.claims["exp"], UTC)

    def __repr__(self) -> str:
        return f"VerifiedToken(subject={self.subject!r}, audience={self.audience!r}, token_id={self.token_id!r})"

    def require(self, *scopes: str) -> None:
        """Return if the token has every one of these scopes.

        Raises:
            InsufficientScope: It has not; names all of ``scopes``.
        """
        if not set(scopes).issubset(self.scopes):
            raise InsufficientScope(scopes)
