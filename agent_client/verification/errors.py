"""Why a resource server does not take a token.

::

    VerificationError
    ├── TokenRejected            401 invalid_token: `reason` says which rule it breaks
    ├── InsufficientScope        403 insufficient_scope: `required` names what is needed
    ├── ApplicationRejected      403 insufficient_scope, and no scope would help
    └── VerificationUnavailable  503: it cannot be said now whether the token is good
        ├── KeysUnavailable
        └── RevocationsUnavailable

No message holds anything of the token, nor what was expected instead: each is fixed text of characters that RFC 6750
section 3 allows in ``error_description``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import timedelta


class RejectionReason(StrEnum):
    """Which rule a token breaks."""

    TOO_LARGE = "TOO_LARGE"
    MALFORMED = "MALFORMED"
    CRITICAL_EXTENSION = "CRITICAL_EXTENSION"
    KEY_IN_HEADER = "KEY_IN_HEADER"
    HEADER_MEMBER_UNKNOWN = "HEADER_MEMBER_UNKNOWN"
    TYPE_WRONG = "TYPE_WRONG"
    ALGORITHM_NOT_ALLOWED = "ALGORITHM_NOT_ALLOWED"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    ALGORITHM_NOT_OF_KEY = "ALGORITHM_NOT_OF_KEY"
    SIGNATURE_WRONG = "SIGNATURE_WRONG"
    CLAIMS_MALFORMED = "CLAIMS_MALFORMED"
    ISSUER_WRONG = "ISSUER_WRONG"
    AUDIENCE_WRONG = "AUDIENCE_WRONG"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    DEVELOPMENT_TOKEN = "DEVELOPMENT_TOKEN"  # noqa: S105 - a reason, not a secret
    BINDING_REQUIRED = "BINDING_REQUIRED"
    BINDING_UNKNOWN = "BINDING_UNKNOWN"
    CERTIFICATE_MISSING = "CERTIFICATE_MISSING"
    CERTIFICATE_WRONG = "CERTIFICATE_WRONG"
    REVOKED = "REVOKED"
    STATUS_UNKNOWN = "STATUS_UNKNOWN"


_TEXTS = {
    RejectionReason.TOO_LARGE: ("the token is larger than 16 KiB", "Present an access token of the issuer."),
    RejectionReason.MALFORMED: (
        "the token is no JWS in compact serialisation with a strict JSON header",
        "Present the token exactly as the issuer gave it.",
    ),
    RejectionReason.CRITICAL_EXTENSION: (
        "the token's header has crit, and no extension is understood here",
        "Present an access token of the issuer.",
    ),
    RejectionReason.KEY_IN_HEADER: (
        "the token's header brings a key or says where to get one; keys come from the issuer alone",
        "Present an access token of the issuer.",
    ),
    RejectionReason.HEADER_MEMBER_UNKNOWN: (
        "the token's header has a member other than alg, kid and typ",
        "Present an access token of the issuer.",
    ),
    RejectionReason.TYPE_WRONG: (
        "the token's typ is not at+jwt, so it is no access token",
        "Present an access token; an ID token, an SVID or a proof is none.",
    ),
    RejectionReason.ALGORITHM_NOT_ALLOWED: (
        "the token's alg is not one that is accepted here",
        "Let the issuer sign with an algorithm that this API accepts.",
    ),
    RejectionReason.KEY_UNKNOWN: (
        "the token's kid names no key of the issuer",
        "Get a new token, from the issuer that this API trusts.",
    ),
    RejectionReason.ALGORITHM_NOT_OF_KEY: (
        "the token's alg is not the one that its key is for",
        "Present an access token of the issuer.",
    ),
    RejectionReason.SIGNATURE_WRONG: (
        "the token's signature does not hold",
        "Present the token exactly as the issuer gave it.",
    ),
    RejectionReason.CLAIMS_MALFORMED: (
        "the token's claims are not those of an access token (RFC 9068 section 2.2)",
        "Tell the issuer's operator.",
    ),
    RejectionReason.ISSUER_WRONG: (
        "the token is of another issuer",
        "Get a token from the issuer that this API trusts.",
    ),
    RejectionReason.AUDIENCE_WRONG: (
        "the token is for another audience",
        "Ask the issuer for a token with this API as its audience.",
    ),
    RejectionReason.EXPIRED: ("the token has expired", "Get a new token; if it is new, compare the clocks."),
    RejectionReason.NOT_YET_VALID: (
        "the token is not valid yet",
        "Compare the clocks of the issuer and of this API.",
    ),
    RejectionReason.DEVELOPMENT_TOKEN: (
        "the token is of a development authority, which attests nobody",
        "Get a token by an identity of a real SPIRE.",
    ),
    RejectionReason.BINDING_REQUIRED: (
        "the token is not bound to a certificate, and has to be",
        "Ask the issuer for a token bound to the caller's certificate.",
    ),
    RejectionReason.BINDING_UNKNOWN: (
        "the token is bound to something else than a certificate (RFC 8705 section 3.1)",
        "Ask the issuer for a token bound to the caller's certificate.",
    ),
    RejectionReason.CERTIFICATE_MISSING: (
        "the token is bound to a certificate, and the caller presented none",
        "Call by mutual TLS, with the certificate that the token was asked for with.",
    ),
    RejectionReason.CERTIFICATE_WRONG: (
        "the token is bound to another certificate than the caller presented",
        "Get a new token after the SVID has rotated, and call with the SVID that it was asked for with.",
    ),
    RejectionReason.REVOKED: ("the token was revoked", "Get a new token, if the issuer still gives one."),
    RejectionReason.STATUS_UNKNOWN: (
        "the token's entry is not in the issuer's status list",
        "Tell the issuer's operator.",
    ),
}
"""What each reason means, and what the caller can do about it."""


class VerificationError(Exception):
    """A token that was not taken.

    Attributes:
        message: What is wrong, in one sentence.
        remedy: What the caller can do, in one sentence.
        http_status: The status of an HTTP answer.
        oauth_error: The ``error`` of its ``WWW-Authenticate`` (RFC 6750 section 3.1); ``None`` where there is none.
    """

    http_status: ClassVar[int]
    oauth_error: ClassVar[str | None] = None

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.message = message
        self.remedy = remedy


class TokenRejected(VerificationError):
    """The token is not good here, for anything.

    Attributes:
        reason: Which rule it breaks.
        claim: The claim that is malformed, where the reason is CLAIMS_MALFORMED and one is to blame.
    """

    http_status = 401
    oauth_error = "invalid_token"

    def __init__(self, reason: RejectionReason, claim: str | None = None) -> None:
        message, remedy = _TEXTS[reason]
        super().__init__(f"{message}: {claim}" if claim else message, remedy)
        self.reason = reason
        self.claim = claim

    def __reduce__(self) -> tuple[type[TokenRejected], tuple[RejectionReason, str | None]]:
        """Be made anew from the reason, by pickle and copy alike."""
        return type(self), (self.reason, self.claim)


class InsufficientScope(VerificationError):
    """The token is good and does not allow this.

    Attributes:
        required: Every scope that is needed, in the order in which it was demanded.
    """

    http_status = 403
    oauth_error = "insufficient_scope"

    def __init__(self, required: tuple[str, ...]) -> None:
        super().__init__("the token does not have every scope that is needed", "Ask the issuer for these scopes.")
        self.required = required

    def __reduce__(self) -> tuple[type[InsufficientScope], tuple[tuple[str, ...]]]:
        """Be made anew from the scopes."""
        return type(self), (self.required,)


class ApplicationRejected(VerificationError):
    """The token is good, and its holder acts for an application that has no business here.

    RFC 6750 section 3.1 has no code of its own for it; ``insufficient_scope`` means "higher privileges than provided by
    the access token" and, unlike ``invalid_token``, keeps clients from asking for the same token again. Answers name no
    ``scope``, since none would help.
    """

    http_status = 403
    oauth_error = "insufficient_scope"

    def __init__(self) -> None:
        super().__init__(
            "the token is not for an application that may use this", "Ask for a token on behalf of one that may."
        )

    def __reduce__(self) -> tuple[type[ApplicationRejected], tuple[()]]:
        """Be made anew."""
        return type(self), ()


class VerificationUnavailable(VerificationError):
    """It cannot be said now whether the token is good. Safe to try again.

    ``message`` is for this server's log: it says what failed, and may name addresses.

    Attributes:
        public_message: What callers may know of it.
        retry_after: When it is worth another try; ``None`` when that is not known.
    """

    http_status = 503
    public_message: ClassVar[str]

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message, "See that this server reaches the issuer.")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Be made anew from the message, and remember when."""
        return type(self), (self.message,), {"retry_after": self.retry_after}


class KeysUnavailable(VerificationUnavailable):
    """The issuer's keys cannot be had, so nothing is known of the token."""

    public_message = "the issuer's keys cannot be had"


class RevocationsUnavailable(VerificationUnavailable):
    """The token may have been revoked: what is revoked is not known, or was not heard of for too long."""

    public_message = "it is not known whether the token was revoked"
