"""The messages of ExchangeToken as values."""

from __future__ import annotations

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.token_request import GrantType
from issuer.exchanging import Presented, SubjectKind
from issuer.rpc.messages import MAX_TOKEN, token_request_from_proto
from issuer_api.v1 import issuer_service_pb2 as pb

_KINDS = {
    pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN: SubjectKind.ACCESS_TOKEN,
    pb.SUBJECT_TOKEN_TYPE_JWT_SVID: SubjectKind.JWT_SVID,
    pb.SUBJECT_TOKEN_TYPE_ID_TOKEN: SubjectKind.ID_TOKEN,
}


def presented_from_proto(message: pb.ExchangeTokenRequest) -> Presented:
    """Return what is presented and asked; what cannot be read of it is told with every fault, as its request."""
    violations = []
    if not 1 <= len(message.subject_token) <= MAX_TOKEN:
        violations.append(FieldViolation("subject_token", f"must have 1 to {MAX_TOKEN} characters"))
    if message.subject_token_type not in _KINDS:
        violations.append(FieldViolation("subject_token_type", "is required, and one that this issuer knows"))
    try:
        request = token_request_from_proto(message.request, GrantType.TOKEN_EXCHANGE)
    except InvalidTokenRequest as error:
        violations += [FieldViolation(f"request.{fault.field}", fault.description) for fault in error.violations]
    if message.request.request_approval:
        violations.append(FieldViolation("request.request_approval", "is not for tokens on behalf of others"))
    kind = _KINDS.get(message.subject_token_type, SubjectKind.ACCESS_TOKEN)
    wanted = InvalidTokenRequest(tuple(violations)) if violations else request
    return Presented(message.subject_token, kind, wanted, message.request.validate_only)
