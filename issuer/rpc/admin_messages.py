"""Messages of AdminService to plain values and back."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from issuer.core.fact_reading import FactRefused
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from issuer.core.generations import Generation, PolicyStatus


def document_from_proto(message: pb.Fact) -> dict[str, object]:
    """Return a fact as :func:`issuer.core.fact_reading.fact_from_document` reads it.

    Raises:
        FactRefused: A value is not set, or a time cannot be one.
    """
    document: dict[str, object] = {
        "type": message.type,
        "subject": message.subject,
        "values": {name: _value(name, value) for name, value in message.values.items()},
    }
    if message.HasField("observe_time"):
        document["observed"] = _readable("observe_time", lambda: message.observe_time.ToDatetime(UTC))
    if message.HasField("expire_time"):
        document["expires"] = _readable("expire_time", lambda: message.expire_time.ToDatetime(UTC))
    if message.caller:
        document["caller"] = message.caller
    if message.audience:
        document["audience"] = message.audience
    return document


def _value(name: str, message: pb.FactValue) -> object:
    field = f"values.{name[:64]}"
    match message.WhichOneof("value"):
        case None:
            raise FactRefused(field, "has no value")
        case "timestamp_value":
            return _readable(field, lambda: message.timestamp_value.ToDatetime(UTC))
        case "duration_value":
            return _readable(field, message.duration_value.ToTimedelta)
        case "strings_value":
            return list(message.strings_value.values)
        case kind:
            value: object = getattr(message, kind)
            return value


def _readable(field: str, read: Callable[[], object]) -> object:
    try:
        return read()
    except (ValueError, OverflowError):
        raise FactRefused(field, "is out of range") from None


def status_to_proto(status: PolicyStatus, facts_by_feeder: Mapping[str, int]) -> pb.GetPolicyStatusResponse:
    """Return the answer of GetPolicyStatus."""
    return pb.GetPolicyStatusResponse(
        current=generation_to_proto(status.current),
        generations=map(generation_to_proto, status.generations),
        pinned=status.pinned,
        last_fault=status.last_fault or "",
        last_fault_time=None if status.last_fault_at is None else timestamp(status.last_fault_at),
        audit_rules=status.audit_rules,
        facts_by_feeder=facts_by_feeder,
    )


def generation_to_proto(generation: Generation) -> pb.PolicyGeneration:
    """Return a policy's digest, time and sizes."""
    policy = generation.policy
    return pb.PolicyGeneration(
        digest=policy.digest,
        load_time=timestamp(generation.loaded_at),
        audiences=len(policy.audiences),
        grants=len(policy.grants),
        prohibitions=len(policy.prohibitions),
        limits=len(policy.limits),
    )


def timestamp(moment: datetime) -> Timestamp:
    """Return a moment as a message."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
