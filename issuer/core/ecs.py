"""Ledger entries as documents of the Elastic Common Schema (ECS 8.17), for log shippers.

An intent stays in the ledger, where it can be erased; a network address is told, since who watches for misuse needs it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote
from uuid import UUID

from issuer.core.instants import moment
from issuer.core.ledger_entries import Event, RevocationLifted, RevocationMade, StepTaken
from issuer.core.record import DecisionRecord, Flag, Outcome

if TYPE_CHECKING:
    from issuer.core.ledger_entries import Entry

ECS_VERSION: Final = "8.17.0"
_TYPES: Final = {
    Outcome.GRANTED: ["access", "allowed"],
    Outcome.DENIED: ["access", "denied"],
    Outcome.ERROR: ["access"],
}


def ecs_document(entry: Entry) -> dict[str, object] | None:
    """Return an entry as an ECS document; ``None`` for what only the ledger itself needs."""
    if isinstance(entry, DecisionRecord):
        return _decision(entry)
    if isinstance(entry, Event):
        return _event(entry)
    if isinstance(entry, StepTaken):
        return _event(entry.event())
    if isinstance(entry, RevocationMade):
        return _event(entry.event(0, 0))  # which number it has is the ledger's own matter
    if isinstance(entry, RevocationLifted):
        return _event(entry.event(0))
    return None


def _decision(record: DecisionRecord) -> dict[str, object]:
    outcome = Outcome(record.outcome)
    sha256, serial, not_after = record.svid.split(" ")
    document = _head(record.time) | {
        "event": {
            "kind": "event",
            "category": ["api"],
            "type": _TYPES[outcome],
            "action": f"token-{outcome.name.lower()}",
            "outcome": "success" if outcome is Outcome.GRANTED else "failure",
            "id": str(UUID(bytes=record.decision_id)),
            "reason": record.reason,
        },
        "user": {"id": record.caller},
        "source": _source(record.peer),
        "tls": {
            "client": {
                "hash": {"sha256": sha256.upper()},
                "x509": {"serial_number": serial.upper(), "not_after": _time(int(not_after))},
            }
        },
        "rule": {"id": record.rules.split(), "ruleset": record.policy},
        "spiffe_issuer": _said(record),
    }
    return _without_absent(document)


def _said(record: DecisionRecord) -> dict[str, object]:
    """Return what ECS has no field for, under the names of the record."""
    return {
        "audience": record.audience,
        "grant_type": record.grant_type,
        "application_asked": record.application_asked,
        "application": record.application,
        "scopes_asked": record.scopes_asked.split(),
        "scopes": record.scopes.split(),
        "scopes_refused": record.scopes_refused.split(),
        "flags": [flag.name.lower() for flag in Flag if record.flags & flag and flag.name],
        "facts": json.loads(record.facts or "[]"),
        "missing": record.missing.split(),
        "lifetime": record.lifetime,
        "lifetime_bound": record.lifetime_bound,
        "lifetime_rule": record.lifetime_rule,
        "token_id": record.token_id,
        "token_sha256": record.token_sha256.hex(),
        "approval": json.loads(record.approval or "null"),
        "origin": json.loads(record.origin or "null"),
        "status": record.status,
        "expires_at": None if record.expires_at is None else _time(record.expires_at * 1_000_000),
    }


def _event(event: Event) -> dict[str, object]:
    document = _head(event.time) | {
        "event": {"kind": "event", "category": ["configuration"], "type": ["info"], "action": event.kind},
        "user": {"id": event.actor},
        "spiffe_issuer": {"detail": event.detail},
    }
    return _without_absent(document)


def _head(time: int) -> dict[str, object]:
    return {"@timestamp": _time(time), "ecs": {"version": ECS_VERSION}, "service": {"name": "spiffe-issuer"}}


def _source(peer: str) -> dict[str, object]:
    """Return a gRPC peer, as ``ipv4:10.0.0.7:4711`` or ``ipv6:%5B::1%5D:4711``."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return {"address": peer}
    host, _, port = unquote(address).rpartition(":") if address.count(":") else (address, "", "")
    source: dict[str, object] = {"address": host.strip("[]"), "ip": host.strip("[]")}
    return source | ({"port": int(port)} if port.isdecimal() else {})


def _without_absent(document: dict[str, object]) -> dict[str, object]:
    """Return a document without what is absent or empty, at every depth."""
    kept = {name: _without_absent(value) if isinstance(value, dict) else value for name, value in document.items()}
    return {name: value for name, value in kept.items() if value not in (None, "", [], {})}


def _time(time: int) -> str:
    return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")
