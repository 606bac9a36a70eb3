"""Intents as lines for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.cli.revocation_output import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_api.v1 import intent_service_pb2 as pb


def state_of(intent: pb.RegisteredIntent) -> str:
    """Return where an intent stands, in a word."""
    name: str = type(intent).State.Name(intent.state)
    return name.removeprefix("STATE_").lower()


def row_of(intent: pb.RegisteredIntent) -> dict[str, object]:
    """Return an intent as a row of a list; JSON has all that the row has."""
    return {
        "name": intent.name,
        "state": state_of(intent),
        "registrar": intent.registrar,
        "consumer": intent.consumer,
        "audience": intent.audience,
        "operation": intent.operation,
        "uses_left": intent.uses_left,
        "expire_time": moment_text(intent.expire_time),
    }


def document_of(intent: pb.RegisteredIntent) -> dict[str, object]:
    """Return an intent for programs; what is absent is null or empty."""
    return row_of(intent) | {
        "scopes": list(intent.scopes),
        "application": intent.application or None,
        "resource": intent.resource or None,
        "parameters_digest": intent.parameters_digest or None,
        "transaction": intent.transaction or None,
        "not_before": moment_text(intent.not_before),
        "uses": intent.uses,
        "max_ttl_seconds": intent.max_ttl.seconds,
        "bind_certificate": intent.bind_certificate,
        "create_time": moment_text(intent.create_time),
        "decision_id": intent.decision_id,
        "redemptions": list(intent.redemptions),
        "end_time": moment_text(intent.end_time) if intent.HasField("end_time") else None,
        "ended_by": intent.ended_by or None,
        "ended_reason": intent.ended_reason or None,
    }


def card(intent: pb.RegisteredIntent) -> str:
    """Return what a person needs to know, a line each: who lets whom do what, until when, and what became of it."""
    return "\n".join(f"{label:<10}{text}" for label, text in _lines(intent) if text)


def _lines(intent: pb.RegisteredIntent) -> Iterator[tuple[str, str]]:
    yield "intent", f"{intent.name}: {state_of(intent)}"
    yield "lets", intent.consumer
    yield "act for", intent.registrar + (f", application {intent.application}" if intent.application else "")
    yield "to do", " ".join(part for part in (intent.operation, intent.resource) if part)
    yield "with", intent.parameters_digest
    yield "by", f"{' '.join(intent.scopes)} at {intent.audience}, at most {intent.max_ttl.seconds} s"
    yield "bound", "to the consumer's certificate" if intent.bind_certificate else ""
    yield "txn", intent.transaction
    yield "window", f"{moment_text(intent.not_before)} to {moment_text(intent.expire_time)}"
    yield "uses", f"{intent.uses_left} left of {intent.uses}"
    for decision in intent.redemptions:
        yield "redeemed", f"decision {decision}"
    if intent.HasField("end_time"):
        yield "ended", moment_text(intent.end_time) + (f", by {intent.ended_by}" if intent.ended_by else "")
    yield "because", f'"{intent.ended_reason}"' if intent.ended_reason else ""
    yield "made", f"{moment_text(intent.create_time)}, decision {intent.decision_id}"
