"""A revocation as the canonical JSON that the ledger chains, and back, exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from issuer.core.ledger_entries import RevocationMade, detail
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import NAMES, Lift, Revocation, Selector

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMES = ("issued_from", "issued_until")


def selector_members(selector: Selector) -> dict[str, object]:
    """Return what a selector names, as members of a JSON object."""
    members: dict[str, object] = {name: getattr(selector, name) for name in (*NAMES, *_TIMES)}
    if selector.workload is not None:
        members["workload"] = selector.workload.text
    if selector.everything:
        members["everything"] = True
    return {name: value for name, value in members.items() if value is not None}


def revocation_members(revocation: Revocation) -> dict[str, object]:
    """Return what is chained of a revocation, as members of a JSON object."""
    return {
        "id": revocation.id,
        "selector": selector_members(revocation.selector),
        "why": revocation.why,
        "stops_issuance": revocation.stops_issuance,
        "until": revocation.until,
        "tokens_hit": revocation.tokens_hit,
        "identities_hit": revocation.identities_hit,
        "request": revocation.request,
        "expires_at": revocation.expires_at,
        "decisions": revocation.decisions,
        "version": revocation.version,
    }


def entry_of(revocation: Revocation) -> RevocationMade:
    """Return what is written into a ledger for a revocation to take effect."""
    return RevocationMade(
        id=revocation.id,
        time=revocation.time,
        actor=revocation.actor,
        detail=detail(revocation_members(revocation)),
        by_attributes=revocation.selector.token is None,
        expires_at=revocation.expires_at,
    )


def revocation_from_text(text: str, *, time: int, actor: str, version: int, lifted: Lift | None) -> Revocation:
    """Return the revocation that a ledger holds.

    Args:
        text: The JSON of :func:`revocation_members`.
        time: When it was made.
        actor: By whom.
        version: Of the last change to it.
        lifted: When it was lifted.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    del members["version"]  # of its making; the last change may be its lift
    members["selector"] = _selector(members["selector"])
    return Revocation(time=time, actor=actor, version=version, lifted=lifted, **members)


def _selector(members: Mapping[str, Any]) -> Selector:
    fields = dict(members)
    if "workload" in fields:
        fields["workload"] = parse_pattern(fields["workload"])
    return Selector(**fields)
