"""Recorded decisions as messages of AdminService, and which are wanted."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import MICROSECOND, microseconds, moment
from issuer.core.record import Flag
from issuer.ports import DecisionsWanted
from issuer.rpc.admin_messages import timestamp
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer.core.record import DecisionRecord


def wanted_from_proto(message: pb.DecisionFilter) -> DecisionsWanted:
    """Return which decisions are wanted.

    Raises:
        InvalidTokenRequest: A time cannot be one, or the outcome is not known.
    """
    if message.outcome not in pb.DecisionOutcome.values():
        raise InvalidTokenRequest((FieldViolation("filter.outcome", "is not known"),))
    return DecisionsWanted(
        since=moment_from_proto("filter.since", message.since) if message.HasField("since") else None,
        until=moment_from_proto("filter.until", message.until) if message.HasField("until") else None,
        outcome=message.outcome or None,
        caller=message.caller or None,
        audience=message.audience or None,
        application=message.application or None,
        scope=message.scope or None,
        grant_type=message.grant_type or None,
        reason=message.reason or None,
        rule=message.rule or None,
        policy=message.policy or None,
        certificate=message.certificate or None,
        peer=message.peer or None,
    )


def decision_to_proto(record: DecisionRecord, seq: int) -> pb.Decision:
    """Return a recorded decision."""
    sha256, serial, _ = record.svid.split(" ")
    return pb.Decision(
        decision_id=str(UUID(bytes=record.decision_id)),
        decide_time=timestamp(moment(record.time)),
        seq=seq,
        outcome=record.outcome,  # type: ignore[arg-type] # the numbers are the same, which a test holds
        reason=record.reason,
        caller=record.caller,
        certificate_sha256=sha256,
        serial_number=serial,
        peer=record.peer,
        grant_type=record.grant_type,
        audience=record.audience,
        application_asked=record.application_asked,
        scopes_asked=record.scopes_asked.split(),
        ttl_asked=None if record.ttl_asked is None else _duration(record.ttl_asked * MICROSECOND),
        intent=record.intent,
        flags=[flag.name.lower() for flag in Flag if record.flags & flag and flag.name],
        application=record.application,
        scopes=record.scopes.split(),
        scopes_refused=record.scopes_refused.split(),
        rules=record.rules.split(),
        policy=record.policy,
        facts=record.facts,
        missing=record.missing.split(),
        lifetime=None if record.lifetime is None else _duration(timedelta(seconds=record.lifetime)),
        lifetime_bound=record.lifetime_bound,
        lifetime_rule=record.lifetime_rule,
        token_id=record.token_id,
        token_expire_time=None if record.expires_at is None else timestamp(moment(record.expires_at * 1_000_000)),
        token_sha256=record.token_sha256,
        audit=record.audit,
        approval=record.approval,
        origin=record.origin,
    )


def moment_from_proto(field: str, message: Timestamp) -> int:
    """Return a moment in microseconds since 1970 UTC.

    Raises:
        InvalidTokenRequest: It is out of range; the message names ``field``.
    """
    try:
        return microseconds(message.ToDatetime(UTC))
    except (ValueError, OverflowError):
        raise InvalidTokenRequest((FieldViolation(field, "is out of range"),)) from None


def _duration(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message
