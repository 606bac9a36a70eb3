"""Revocations in words and as JSON."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer_api.v1 import admin_service_pb2 as pb

_TEXTS = ("token_id", "basis", "workload", "application", "audience", "rule", "policy", "key_id")
_TIMES = ("issued_from", "issued_until")


def words_of(selector: pb.TokenSelector) -> str:
    """Return what a selector names, in words."""
    document = selector_document(selector)
    words = ["everything"] if document.pop("everything", False) else []
    words += [f"{name.removesuffix('_id').replace('_', ' ')} {value}" for name, value in document.items()]
    return ", ".join(words)


def selector_document(selector: pb.TokenSelector) -> dict[str, object]:
    """Return what a selector names, for programs."""
    document: dict[str, object] = {
        name: getattr(selector, name)
        for name in _TEXTS
        if selector.HasField(name)  # type: ignore[arg-type] # one of its fields
    }
    if selector.everything:
        document["everything"] = True
    document |= {
        name: moment_text(getattr(selector, name))
        for name in _TIMES
        if selector.HasField(name)  # type: ignore[arg-type] # one of its fields
    }
    return document


def revocation_document(revocation: pb.Revocation) -> dict[str, object]:
    """Return a revocation for programs; what is absent is null."""
    return {
        "revocation_id": revocation.revocation_id or None,
        "selector": selector_document(revocation.selector),
        "make_time": moment_text(revocation.make_time),
        "actor": revocation.actor,
        "reason": revocation.reason,
        "stops_issuance": revocation.stops_issuance,
        "stop_until": moment_text(revocation.stop_until) if revocation.HasField("stop_until") else None,
        "tokens_hit": revocation.tokens_hit,
        "identities_hit": revocation.identities_hit,
        "lift_time": moment_text(revocation.lift_time) if revocation.HasField("lift_time") else None,
        "lifted_by": revocation.lifted_by or None,
    }


def moment_text(moment: Timestamp) -> str:
    """Return a moment as text, to the second."""
    return moment.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
