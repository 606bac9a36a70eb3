"""From the status of a call to the error that its caller meets. Pure; it knows gRPC's codes and none of its objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_client import errors
from agent_client.errors import IssuerRequestError, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

ERROR_DOMAIN = "spiffe-issuer"
DETAILS_KEY = "grpc-status-details-bin"
LONGEST_RETRY_AFTER = timedelta(hours=1)
"""More is ignored: no limit of ours takes longer, and a mistake must not silence a workload for a day."""
_IMPOSTOR = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""What gRPC writes into the details of UNAVAILABLE when the server's certificate is refused; a test pins both."""

ERRORS_BY_REASON: dict[str, type[IssuerRequestError]] = {
    "REQUEST_INVALID": errors.InvalidTokenRequest,
    "RPC_NOT_ALLOWED": errors.RpcNotAllowed,
    "SVID_MISSING": errors.SvidRejected,
    "SVID_MALFORMED": errors.SvidRejected,
    "SVID_URI_SAN_MISSING": errors.SvidRejected,
    "SVID_URI_SAN_MULTIPLE": errors.SvidRejected,
    "SVID_URI_SAN_NOT_CRITICAL": errors.SvidRejected,
    "SPIFFE_ID_NOT_CANONICAL": errors.SvidRejected,
    "SPIFFE_ID_TOO_LONG": errors.SvidRejected,
    "SPIFFE_ID_WITHOUT_PATH": errors.SvidRejected,
    "SVID_IS_CA": errors.SvidRejected,
    "SVID_KEY_USAGE_MISSING": errors.SvidRejected,
    "SVID_KEY_USAGE_NOT_CRITICAL": errors.SvidRejected,
    "SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE": errors.SvidRejected,
    "SVID_KEY_USAGE_CERT_SIGN": errors.SvidRejected,
    "SVID_KEY_USAGE_CRL_SIGN": errors.SvidRejected,
    "SVID_EXTENDED_KEY_USAGE": errors.SvidRejected,
    "SVID_EXPIRED": errors.SvidRejected,
    "SVID_NOT_YET_VALID": errors.SvidRejected,
    "SVID_EXPIRES_SOON": errors.SvidExpiresSoon,
    "CALLER_IS_ISSUER": errors.SvidRejected,
    "CHAIN_TOO_LONG": errors.ChainRejected,
    "CHAIN_INCOMPLETE": errors.ChainRejected,
    "CHAIN_INVALID": errors.ChainRejected,
    "CHAIN_INTERMEDIATE_EXPIRED": errors.ChainRejected,
    "CHAIN_INTERMEDIATE_FOREIGN": errors.ChainRejected,
    "CHAIN_NAME_CONSTRAINTS": errors.ChainRejected,
    "CHAIN_AUTHORITY_REMOVED": errors.ChainRejected,
    "TRUST_DOMAIN_MISMATCH": errors.TrustDomainRejected,
    "TRUST_DOMAIN_NOT_ALLOWED": errors.TrustDomainRejected,
    "TRUST_BUNDLE_MISSING": errors.TrustDomainRejected,
    "TRUST_BUNDLE_EMPTY": errors.TrustDomainRejected,
    "AUDIENCE_NOT_ALLOWED": errors.AudienceNotAllowed,
    "SCOPE_NOT_ALLOWED": errors.ScopeNotAllowed,
    "APPLICATION_NOT_ALLOWED": errors.ApplicationNotAllowed,
    "APPLICATION_REQUIRED": errors.ApplicationRequired,
    "GRANT_EXPIRED": errors.GrantExpired,
    "GRANT_TYPE_NOT_ALLOWED": errors.PolicyDenied,
    "FACT_MISSING": errors.FactMissing,
    "CONDITION_NOT_MET": errors.ConditionNotMet,
    "APPROVAL_REQUIRED": errors.ApprovalRequired,
    "ORIGIN_EXPIRES_SOON": errors.PreconditionFailed,
    "REVOKED": errors.PolicyDenied,
    "POLICY_INVALID": errors.PreconditionFailed,
    "POLICY_UNKNOWN": errors.NotFound,
    "TOO_MANY_FACTS": errors.LimitExceeded,
    "TOO_MANY_WATCHES": errors.LimitExceeded,
    "TOO_MANY_REVOCATIONS": errors.LimitExceeded,
    "REVOCATION_UNKNOWN": errors.NotFound,
    "REVOCATION_FINAL": errors.PreconditionFailed,
    "KEY_UNKNOWN": errors.NotFound,
    "KEY_CHANGE_REFUSED": errors.PreconditionFailed,
    "APPROVAL_UNKNOWN": errors.NotFound,
    "APPROVAL_NOT_OPEN": errors.PreconditionFailed,
    "APPROVER_NOT_ALLOWED": errors.AccessDenied,
    "TOO_MANY_APPROVALS": errors.LimitExceeded,
    "SUBJECT_TOKEN_NOT_TAKEN": errors.SubjectTokenNotTaken,
    "SUBJECT_TOKEN_NOT_YOURS": errors.AccessDenied,
    "ACTOR_CHAIN_ENDS": errors.PreconditionFailed,
    "EVIDENCE_REQUIRED": errors.PreconditionFailed,
    "EVIDENCE_REFUSED": errors.AccessDenied,
    "ACCESS_UNKNOWN": errors.NotFound,
    "ACCESS_ENDED": errors.AccessEnded,
    "TOO_MANY_WINDOWS": errors.LimitExceeded,
    "INTENT_UNKNOWN": errors.NotFound,
    "INTENT_NOT_OPEN": errors.IntentNotOpen,
    "INTENT_NOT_YET": errors.IntentNotOpen,
    "INTENT_NOT_YOURS": errors.AccessDenied,
    "INTENT_PAYLOAD_DIFFERS": errors.PreconditionFailed,
    "REGISTRAR_NOT_ALLOWED": errors.PolicyDenied,
    "TOO_MANY_INTENTS": errors.LimitExceeded,
    "IDENTITY_UNAVAILABLE": errors.IssuerUnavailable,
    "POLICY_NOT_LOADED": errors.IssuerUnavailable,
    "SIGNER_UNAVAILABLE": errors.IssuerUnavailable,
    "LEDGER_UNAVAILABLE": errors.IssuerUnavailable,
    "OIDC_ISSUER_UNAVAILABLE": errors.IssuerUnavailable,
    "STATUS_UNAVAILABLE": errors.IssuerUnavailable,
    "RATE_LIMITED": errors.LimitExceeded,
    "INTERNAL": errors.IssuerFault,
}
"""Total over ``ErrorReason``; a test holds it to that."""

_ERRORS_BY_CODE: dict[int, type[IssuerRequestError]] = {
    code_pb2.INVALID_ARGUMENT: errors.InvalidTokenRequest,
    code_pb2.PERMISSION_DENIED: errors.AccessDenied,
    code_pb2.UNAUTHENTICATED: errors.NotAuthenticated,
    code_pb2.FAILED_PRECONDITION: errors.PreconditionFailed,
    code_pb2.NOT_FOUND: errors.NotFound,
    code_pb2.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    code_pb2.UNAVAILABLE: errors.IssuerUnavailable,
    code_pb2.DEADLINE_EXCEEDED: errors.IssuerTimedOut,
}
"""For what has no reason, or one that is newer than this client. Everything else is a fault of the issuer."""


class CallStatus(NamedTuple):
    """How a call ended: the status code's number, its text, and the trailing metadata."""

    code: int
    text: str
    trailers: Iterable[tuple[str, str | bytes]]


def failure_of_call(ended: CallStatus, address: str) -> IssuerRequestError:
    """Return what a failed call to the issuer at ``address`` means."""
    status = _sent_status(ended)
    if status is not None:
        return failure_of_status(status)
    if ended.code == code_pb2.DEADLINE_EXCEEDED:
        return errors.IssuerTimedOut(f"no answer from the issuer at {address} before the deadline")
    if ended.code == code_pb2.UNAVAILABLE:
        return _unreachable(ended.text, address)
    return failure_of_status(Status(code=ended.code, message=ended.text))


def failure_of_status(status: Status) -> IssuerRequestError:
    """Return what a status that the issuer sent means, be it a call's or that of one item of a batch."""
    info = _info(status)
    by_code = _ERRORS_BY_CODE.get(status.code, errors.IssuerFault)
    failure = ERRORS_BY_REASON.get(info.reason, by_code)(
        status.message or f"the issuer ended the call with {_code_name(status.code)}",
        reason=info.reason or None,
        decision_id=info.metadata.get("decisionId"),
        request_id=info.metadata.get("requestId"),
        scopes=tuple(info.metadata.get("scopes", "").split()),
        violations=_violations(status),
        retry_after=_retry_after(status),
    )
    if isinstance(failure, errors.ApprovalRequired):
        failure.approval_request = info.metadata.get("approvalRequest")
        failure.approval_digest = info.metadata.get("digest")
        failure.approval_expires_at = _moment(info.metadata.get("expireTime", ""))
    return failure


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)


def _unreachable(text: str, address: str) -> IssuerRequestError:
    if any(mark in text for mark in _IMPOSTOR):
        return errors.IssuerNotTrusted(f"the server at {address} did not prove to be the issuer: {text}")
    return errors.IssuerUnavailable(f"the issuer at {address} cannot be reached: {text}")


def _sent_status(ended: CallStatus) -> Status | None:
    """Return the status message of the trailers, unless there is none or it contradicts the call's own code."""
    for key, value in ended.trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code == ended.code else None
    return None


def _info(status: Status) -> ErrorInfo:
    """Return the issuer's ErrorInfo, or an empty one; that of a proxy in between has another domain."""
    for detail in status.details:
        info = ErrorInfo()
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info
    return ErrorInfo()


def _violations(status: Status) -> tuple[Violation, ...]:
    for detail in status.details:
        request = BadRequest()
        if detail.Is(BadRequest.DESCRIPTOR) and detail.Unpack(request):
            return tuple(Violation(fault.field, fault.description) for fault in request.field_violations)
    return ()


def _retry_after(status: Status) -> timedelta | None:
    """Return how long the issuer asks to be left alone (``google.rpc.RetryInfo``), if that is a time we would obey."""
    for detail in status.details:
        info = RetryInfo()
        if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
            delay = info.retry_delay
            # Compared before it is made a timedelta, which holds less than a Duration does.
            if not 0 <= delay.seconds <= LONGEST_RETRY_AFTER.total_seconds():
                return None
            asked = timedelta(seconds=delay.seconds, microseconds=delay.nanos / 1000)
            return asked if timedelta() < asked <= LONGEST_RETRY_AFTER else None
    return None


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"status {code}"
