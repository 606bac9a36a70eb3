"""Requests for approval as messages, and what is asked of them as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from issuer.approving import Answer
from issuer.core.approval_evidence import evidence_nonce
from issuer.core.approval_state import COLLECTION, Status, StepKind, name_of
from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import microseconds, moment
from issuer.rpc.admin_messages import timestamp
from issuer_api.v1 import approval_service_pb2 as pb
from issuer_api.v1.issuer_service_pb2 import Intent

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.approval_evidence import Evidence
    from issuer.core.approval_request import Need
    from issuer.core.approval_state import ApprovalRequest, Given
    from issuer.core.recorded_tokens import LivingToken

MAX_NAME: Final = 128
MAX_SCOPES: Final = 32
_DAY: Final = 86_400
_STATES: Final = {
    Status.PENDING: pb.ApprovalRequest.STATE_PENDING,
    Status.APPROVED: pb.ApprovalRequest.STATE_APPROVED,
    Status.DENIED: pb.ApprovalRequest.STATE_DENIED,
    Status.CANCELLED: pb.ApprovalRequest.STATE_CANCELLED,
    Status.EXPIRED: pb.ApprovalRequest.STATE_EXPIRED,
    Status.USED_UP: pb.ApprovalRequest.STATE_USED_UP,
    Status.REVOKED: pb.ApprovalRequest.STATE_REVOKED,
}


def id_of(name: str) -> str:
    """Return the id in a name.

    Raises:
        InvalidTokenRequest: It is no name.
    """
    collection, _, request_id = name.partition("/")
    if collection != COLLECTION or not request_id or len(name) > MAX_NAME:
        raise InvalidTokenRequest((FieldViolation("name", f"is required: {COLLECTION}/ and an id"),))
    return request_id


def approve_from_proto(message: pb.ApproveRequestRequest) -> Answer:
    """Return an approval.

    Raises:
        InvalidTokenRequest: Its lifetime cannot be one, or there are too many scopes.
    """
    if len(message.scopes) > MAX_SCOPES:
        raise InvalidTokenRequest((FieldViolation("scopes", f"has more than {MAX_SCOPES} entries"),))
    ttl = None
    if message.HasField("ttl"):
        ttl = message.ttl.seconds
        if message.ttl.nanos or not 0 < ttl < 366 * _DAY:
            raise InvalidTokenRequest((FieldViolation("ttl", "must be positive and whole seconds"),))
    return Answer(StepKind.APPROVE, tuple(message.scopes) or None, ttl, message.reason, message.id_token)


def request_to_proto(request: ApprovalRequest, now: datetime) -> pb.ApprovalRequest:
    """Return a request as it stands at ``now``."""
    question = request.question
    asked = question.asked
    return pb.ApprovalRequest(
        name=name_of(request),
        state=_STATES[request.status_at(microseconds(now))],
        digest=asked.digest,
        caller=asked.caller,
        audience=asked.audience,
        application=asked.application,
        scopes=asked.scopes,
        ttl=None
        if asked.ttl is None
        else Duration(seconds=asked.ttl // 1_000_000, nanos=asked.ttl % 1_000_000 * 1_000),
        intent=Intent(**json.loads(asked.intent)) if asked.intent else None,
        bind_certificate=asked.bind_certificate,
        policy_digest=asked.policy,
        grant_type=asked.grant_type,
        reason=question.why,
        decision_id=question.decision,
        lifetime=Duration(seconds=question.lifetime),
        create_time=timestamp(moment(question.created)),
        expire_time=timestamp(moment(request.until)),
        needs=[_need(need) for need in question.needs],
        given=[_given(given) for given in request.given],
        scopes_left=request.scopes_left,
        max_ttl=_seconds(request.ttl),
        uses_left=request.uses_left,
        ended_by=request.ended_by,
        ended_reason=request.ended_why,
        development=any(given.development for given in request.given),
        evidence_nonce=evidence_nonce(question),
    )


def got_to_proto(
    request: ApprovalRequest, now: datetime, tokens: int, newest: list[LivingToken]
) -> pb.GetApprovalRequestResponse:
    """Return a request with what the identity that asked holds."""
    return pb.GetApprovalRequestResponse(
        approval_request=request_to_proto(request, now),
        living_tokens=tokens,
        newest_tokens=[
            pb.LivingToken(
                audience=each.audience, expire_time=Timestamp(seconds=each.expires_at), token_id=each.token_id
            )
            for each in newest
        ],
    )


def _need(need: Need) -> pb.ApprovalNeed:
    return pb.ApprovalNeed(
        scope=need.scope, risk=need.risk, approvers=need.approvers, quorum=need.quorum, human=need.human
    )


def _given(given: Given) -> pb.GivenApproval:
    return pb.GivenApproval(
        approver=given.by,
        scopes=given.scopes,
        ttl=_seconds(given.ttl),
        time=timestamp(moment(given.time)),
        reason=given.why,
        evidence=None if given.evidence is None else _evidence(given.evidence),
    )


def _evidence(evidence: Evidence) -> pb.ApprovalEvidence:
    return pb.ApprovalEvidence(
        issuer=evidence.issuer,
        person=evidence.person,
        auth_time=Timestamp(seconds=evidence.auth_time),
        acr=evidence.acr,
        amr=evidence.amr,
        token_sha256=evidence.token,
        gateway=evidence.gateway,
    )


def _seconds(seconds: int | None) -> Duration | None:
    return None if seconds is None else Duration(seconds=seconds)
