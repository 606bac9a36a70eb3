"""Why a request is refused: the reasons, and the one tree of errors that carries them.

::

    IssuerError                      every refusal that is raised, with its Reason
    ├── InvalidTokenRequest          the message is malformed; names each field
    ├── CallerNotVerified            the SVID, or the bundle it is checked against, does not hold
    ├── RpcNotAllowed                this caller may not use this method at all
    ├── PolicyDenied                 decide() said no; carries the decision id and the scopes
    ├── AdminRefused                 what an administrator or a feeder asked for cannot be done
    ├── RateLimited                  more is asked than can be answered; tells when to come back
    └── TemporarilyUnavailable       something the issuer needs is away: fail closed, safe to retry

``rpc/status.py`` is the only place that turns a reason into a gRPC status. Messages here reach the caller, so they say
what was wrong with *their* input and never what policy would have expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.core.approval_state import ApprovalRequest


@unique
class Reason(StrEnum):
    """A stable, machine-readable cause of a refusal.

    The values equal those of ``ErrorReason`` in ``proto/issuer_api/v1/error_reason.proto`` without the prefix; that
    file holds the meaning of each one, and a test holds the two together.
    """

    # The request.
    REQUEST_INVALID = "REQUEST_INVALID"
    RPC_NOT_ALLOWED = "RPC_NOT_ALLOWED"

    # The caller's X.509-SVID (X509-SVID section 4 and 5, SPIFFE-ID section 2).
    SVID_MISSING = "SVID_MISSING"
    SVID_MALFORMED = "SVID_MALFORMED"
    SVID_URI_SAN_MISSING = "SVID_URI_SAN_MISSING"
    SVID_URI_SAN_MULTIPLE = "SVID_URI_SAN_MULTIPLE"
    SVID_URI_SAN_NOT_CRITICAL = "SVID_URI_SAN_NOT_CRITICAL"
    SPIFFE_ID_NOT_CANONICAL = "SPIFFE_ID_NOT_CANONICAL"
    SPIFFE_ID_TOO_LONG = "SPIFFE_ID_TOO_LONG"
    SPIFFE_ID_WITHOUT_PATH = "SPIFFE_ID_WITHOUT_PATH"
    SVID_IS_CA = "SVID_IS_CA"
    SVID_KEY_USAGE_MISSING = "SVID_KEY_USAGE_MISSING"
    SVID_KEY_USAGE_NOT_CRITICAL = "SVID_KEY_USAGE_NOT_CRITICAL"
    SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE = "SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE"
    SVID_KEY_USAGE_CERT_SIGN = "SVID_KEY_USAGE_CERT_SIGN"
    SVID_KEY_USAGE_CRL_SIGN = "SVID_KEY_USAGE_CRL_SIGN"
    SVID_EXTENDED_KEY_USAGE = "SVID_EXTENDED_KEY_USAGE"
    SVID_EXPIRED = "SVID_EXPIRED"
    SVID_NOT_YET_VALID = "SVID_NOT_YET_VALID"
    SVID_EXPIRES_SOON = "SVID_EXPIRES_SOON"
    CALLER_IS_ISSUER = "CALLER_IS_ISSUER"

    # The chain from that SVID to the bundle of its own trust domain.
    CHAIN_TOO_LONG = "CHAIN_TOO_LONG"
    CHAIN_INCOMPLETE = "CHAIN_INCOMPLETE"
    CHAIN_INVALID = "CHAIN_INVALID"
    CHAIN_INTERMEDIATE_EXPIRED = "CHAIN_INTERMEDIATE_EXPIRED"
    CHAIN_INTERMEDIATE_FOREIGN = "CHAIN_INTERMEDIATE_FOREIGN"
    CHAIN_NAME_CONSTRAINTS = "CHAIN_NAME_CONSTRAINTS"
    CHAIN_AUTHORITY_REMOVED = "CHAIN_AUTHORITY_REMOVED"
    TRUST_DOMAIN_MISMATCH = "TRUST_DOMAIN_MISMATCH"
    TRUST_DOMAIN_NOT_ALLOWED = "TRUST_DOMAIN_NOT_ALLOWED"
    TRUST_BUNDLE_MISSING = "TRUST_BUNDLE_MISSING"
    TRUST_BUNDLE_EMPTY = "TRUST_BUNDLE_EMPTY"

    # Policy.
    AUDIENCE_NOT_ALLOWED = "AUDIENCE_NOT_ALLOWED"
    SCOPE_NOT_ALLOWED = "SCOPE_NOT_ALLOWED"
    APPLICATION_NOT_ALLOWED = "APPLICATION_NOT_ALLOWED"
    APPLICATION_REQUIRED = "APPLICATION_REQUIRED"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_TYPE_NOT_ALLOWED = "GRANT_TYPE_NOT_ALLOWED"
    FACT_MISSING = "FACT_MISSING"
    CONDITION_NOT_MET = "CONDITION_NOT_MET"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    REVOKED = "REVOKED"
    ORIGIN_EXPIRES_SOON = "ORIGIN_EXPIRES_SOON"

    # The administration of policy, facts, revocations and keys.
    POLICY_INVALID = "POLICY_INVALID"
    POLICY_UNKNOWN = "POLICY_UNKNOWN"
    TOO_MANY_FACTS = "TOO_MANY_FACTS"
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    TOO_MANY_REVOCATIONS = "TOO_MANY_REVOCATIONS"
    REVOCATION_UNKNOWN = "REVOCATION_UNKNOWN"
    REVOCATION_FINAL = "REVOCATION_FINAL"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEY_CHANGE_REFUSED = "KEY_CHANGE_REFUSED"

    # Requests for approval, and their answers.
    APPROVAL_UNKNOWN = "APPROVAL_UNKNOWN"
    APPROVAL_NOT_OPEN = "APPROVAL_NOT_OPEN"
    APPROVER_NOT_ALLOWED = "APPROVER_NOT_ALLOWED"
    TOO_MANY_APPROVALS = "TOO_MANY_APPROVALS"
    EVIDENCE_REQUIRED = "EVIDENCE_REQUIRED"
    EVIDENCE_REFUSED = "EVIDENCE_REFUSED"

    # The exchange of tokens.
    SUBJECT_TOKEN_NOT_TAKEN = "SUBJECT_TOKEN_NOT_TAKEN"  # noqa: S105 - the name of a reason
    SUBJECT_TOKEN_NOT_YOURS = "SUBJECT_TOKEN_NOT_YOURS"  # noqa: S105
    ACTOR_CHAIN_ENDS = "ACTOR_CHAIN_ENDS"

    # Windows of access.
    ACCESS_UNKNOWN = "ACCESS_UNKNOWN"
    ACCESS_ENDED = "ACCESS_ENDED"
    TOO_MANY_WINDOWS = "TOO_MANY_WINDOWS"

    # Intents, and what becomes of them.
    INTENT_UNKNOWN = "INTENT_UNKNOWN"
    INTENT_NOT_OPEN = "INTENT_NOT_OPEN"
    INTENT_NOT_YET = "INTENT_NOT_YET"
    INTENT_NOT_YOURS = "INTENT_NOT_YOURS"
    INTENT_PAYLOAD_DIFFERS = "INTENT_PAYLOAD_DIFFERS"
    REGISTRAR_NOT_ALLOWED = "REGISTRAR_NOT_ALLOWED"
    TOO_MANY_INTENTS = "TOO_MANY_INTENTS"

    # The issuer itself. All fail closed and are safe to retry.
    IDENTITY_UNAVAILABLE = "IDENTITY_UNAVAILABLE"
    POLICY_NOT_LOADED = "POLICY_NOT_LOADED"
    SIGNER_UNAVAILABLE = "SIGNER_UNAVAILABLE"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    OIDC_ISSUER_UNAVAILABLE = "OIDC_ISSUER_UNAVAILABLE"
    STATUS_UNAVAILABLE = "STATUS_UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One fault of a request: which field, in protobuf path form (``scopes[1]``), and what is wrong with it."""

    field: str
    description: str


class IssuerError(Exception):
    """A refusal. ``reason`` is for programs, the message for the caller's operator."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InvalidTokenRequest(IssuerError):
    """The request cannot be understood. ``violations`` is never empty."""

    def __init__(self, violations: tuple[FieldViolation, ...]) -> None:
        fields = ", ".join(violation.field for violation in violations)
        super().__init__(Reason.REQUEST_INVALID, f"invalid request: {fields}")
        self.violations = violations


class CallerNotVerified(IssuerError):
    """The caller did not prove an identity that may call."""


class RpcNotAllowed(IssuerError):
    """A verified caller, but not one for this method."""

    def __init__(self, message: str = "this caller may not use this method") -> None:
        super().__init__(Reason.RPC_NOT_ALLOWED, message)


class PolicyDenied(IssuerError):
    """Policy refused the request.

    ``scopes`` are those of the request that were refused (empty when the whole request was). ``approval`` is what was
    asked for exactly this and is open, or was denied. The message never tells what policy expected.
    """

    def __init__(self, reason: Reason, message: str, *, decision_id: str, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(reason, message)
        self.decision_id = decision_id
        self.scopes = scopes
        self.approval: ApprovalRequest | None = None


class AdminRefused(IssuerError):
    """What an administrator or a feeder asked for cannot be done; nothing was changed."""


class RateLimited(IssuerError):
    """More is asked than can be answered. The same request may be answered once ``retry_after`` has passed.

    Such a refusal is neither recorded nor logged one by one, or else it would cost what it is there to spare.
    """

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(Reason.RATE_LIMITED, message)
        self.retry_after = retry_after


class TemporarilyUnavailable(IssuerError):
    """The issuer cannot decide or sign right now; nothing was issued."""
