"""From a refusal to ``google.rpc.Status``: the only place that knows which reason has which status code."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo

from issuer.core.approval_state import name_of
from issuer.core.errors import InvalidTokenRequest, IssuerError, PolicyDenied, RateLimited, Reason
from issuer.core.instants import moment

if TYPE_CHECKING:
    from datetime import timedelta

    from google.protobuf.message import Message

    from issuer.core.approval_state import ApprovalRequest

ERROR_DOMAIN = "spiffe-issuer"

_UNAUTHENTICATED = tuple(
    reason
    for reason in Reason
    if reason.startswith(("SVID_", "SPIFFE_ID_", "CHAIN_", "TRUST_")) and reason is not Reason.SVID_EXPIRES_SOON
)

STATUS_CODES: dict[Reason, code_pb2.Code.ValueType] = {
    **dict.fromkeys(_UNAUTHENTICATED, code_pb2.UNAUTHENTICATED),
    Reason.CALLER_IS_ISSUER: code_pb2.UNAUTHENTICATED,
    Reason.REQUEST_INVALID: code_pb2.INVALID_ARGUMENT,
    Reason.RPC_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.SVID_EXPIRES_SOON: code_pb2.FAILED_PRECONDITION,
    Reason.AUDIENCE_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.SCOPE_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.APPLICATION_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.APPLICATION_REQUIRED: code_pb2.PERMISSION_DENIED,
    Reason.GRANT_EXPIRED: code_pb2.PERMISSION_DENIED,
    Reason.GRANT_TYPE_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.FACT_MISSING: code_pb2.PERMISSION_DENIED,
    Reason.CONDITION_NOT_MET: code_pb2.PERMISSION_DENIED,
    Reason.APPROVAL_REQUIRED: code_pb2.FAILED_PRECONDITION,
    Reason.ORIGIN_EXPIRES_SOON: code_pb2.FAILED_PRECONDITION,
    Reason.REVOKED: code_pb2.PERMISSION_DENIED,
    Reason.POLICY_INVALID: code_pb2.FAILED_PRECONDITION,
    Reason.POLICY_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.TOO_MANY_FACTS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_WATCHES: code_pb2.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_REVOCATIONS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.REVOCATION_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.REVOCATION_FINAL: code_pb2.FAILED_PRECONDITION,
    Reason.KEY_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.KEY_CHANGE_REFUSED: code_pb2.FAILED_PRECONDITION,
    Reason.APPROVAL_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.APPROVAL_NOT_OPEN: code_pb2.FAILED_PRECONDITION,
    Reason.APPROVER_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.TOO_MANY_APPROVALS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.SUBJECT_TOKEN_NOT_TAKEN: code_pb2.FAILED_PRECONDITION,
    Reason.SUBJECT_TOKEN_NOT_YOURS: code_pb2.PERMISSION_DENIED,
    Reason.ACTOR_CHAIN_ENDS: code_pb2.FAILED_PRECONDITION,
    Reason.EVIDENCE_REQUIRED: code_pb2.FAILED_PRECONDITION,
    Reason.EVIDENCE_REFUSED: code_pb2.PERMISSION_DENIED,
    Reason.ACCESS_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.ACCESS_ENDED: code_pb2.FAILED_PRECONDITION,
    Reason.TOO_MANY_WINDOWS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.INTENT_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.INTENT_NOT_OPEN: code_pb2.FAILED_PRECONDITION,
    Reason.INTENT_NOT_YET: code_pb2.FAILED_PRECONDITION,
    Reason.INTENT_NOT_YOURS: code_pb2.PERMISSION_DENIED,
    Reason.INTENT_PAYLOAD_DIFFERS: code_pb2.FAILED_PRECONDITION,
    Reason.REGISTRAR_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.TOO_MANY_INTENTS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.IDENTITY_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.POLICY_NOT_LOADED: code_pb2.UNAVAILABLE,
    Reason.SIGNER_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.LEDGER_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.OIDC_ISSUER_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.STATUS_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.RATE_LIMITED: code_pb2.RESOURCE_EXHAUSTED,
    Reason.INTERNAL: code_pb2.INTERNAL,
}
"""Total over ``Reason``; a test holds it to that."""


def status_from_error(error: IssuerError, request_id: str) -> status_pb2.Status:
    """Return the status a caller receives: code, message and exactly one ErrorInfo (AIP-193).

    ``request_id`` is empty for a call that the log does not tell of.
    """
    if isinstance(error, RateLimited) and not request_id:
        return _rate_limited(error.message, error.retry_after)
    details: list[Message] = [
        ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=_metadata(error, request_id))
    ]
    if isinstance(error, InvalidTokenRequest):
        details.append(_bad_request(error))
    if isinstance(error, RateLimited):
        details.append(_retry_info(error.retry_after))
    if isinstance(error, PolicyDenied) and error.reason is Reason.APPROVAL_REQUIRED:
        details.append(_precondition(error))
    return status_pb2.Status(code=STATUS_CODES[error.reason], message=error.message, details=map(_packed, details))


def internal_error() -> IssuerError:
    """Return what a caller learns of a fault of ours: a fixed text. The cause goes to the log, never into a message."""
    return IssuerError(Reason.INTERNAL, "internal error of the issuer")


def _metadata(error: IssuerError, request_id: str) -> dict[str, str]:
    metadata = {"requestId": request_id} if request_id else {}
    if isinstance(error, PolicyDenied):
        metadata["decisionId"] = error.decision_id
        if error.scopes:
            metadata["scopes"] = " ".join(error.scopes)
        if error.approval is not None:
            metadata |= _approval(error.approval)
    return metadata


def _approval(request: ApprovalRequest) -> dict[str, str]:
    return {
        "approvalRequest": name_of(request),
        "expireTime": moment(request.until).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "digest": request.question.asked.digest,
    }


def _precondition(error: PolicyDenied) -> PreconditionFailure:
    subject = " ".join(error.scopes) if error.approval is None else name_of(error.approval)
    return PreconditionFailure(
        violations=[PreconditionFailure.Violation(type="APPROVAL", subject=subject, description=error.message)]
    )


def _bad_request(error: InvalidTokenRequest) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
    )


def _retry_info(retry_after: timedelta) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromTimedelta(retry_after)
    return info


@lru_cache(maxsize=128)  # there are sixteen times to come back after in each of three spans, and two texts
def _rate_limited(message: str, retry_after: timedelta) -> status_pb2.Status:
    """Return the status of a call that is one too many: it must cost less than the call would have."""
    reason = Reason.RATE_LIMITED
    details = (ErrorInfo(reason=reason, domain=ERROR_DOMAIN), _retry_info(retry_after))
    return status_pb2.Status(code=STATUS_CODES[reason], message=message, details=map(_packed, details))


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
