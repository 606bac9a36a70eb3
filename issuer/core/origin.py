"""What a token rests on beside its caller's own right: another token, an intent, or a window of access.

An origin only takes away. Policy decides about the caller as ever; the token is then no wider and lives no longer than
its origin, and dies with every token that is above it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from issuer.core.revocation import Issued
from issuer.core.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.approvals import Approved


class OriginKind(StrEnum):
    """What a token rests on."""

    EXCHANGE = "exchange"
    INTENT = "intent"
    ACCESS = "access"


class Actor(NamedTuple):
    """Who acts: ``sub`` and ``iss`` of one object of the ``act`` claim (RFC 8693 section 4.1)."""

    subject: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What one token rests on.

    Attributes:
        kind: What kind of thing that is.
        id: Of the intent or the window of access; empty for an exchange.
        number: Which step of it this use is; the ledger lets each be taken once. 0 where nothing is used up.
        subject: The token's ``sub``: on whose behalf.
        actors: Its ``act`` chain, the current actor first; empty where the subject acts itself.
        ancestors: The tokens above it, the nearest first; whatever kills one of them kills this one.
        scopes: No scope but these, at least one.
        until: Microseconds since 1970 UTC; no token lives longer.
        bind: The token must be bound to the caller's certificate.
        transaction: The ``txn``; empty for none.
        details: The ``authorization_details`` as canonical JSON (RFC 9396 section 2); empty for none.
        over_at: When it matters to nobody any more that the step was taken, microseconds since 1970 UTC.
        application: The token must name this one, or none where it is empty; ``None`` leaves that to policy.
    """

    kind: OriginKind
    id: str
    number: int
    subject: str
    actors: tuple[Actor, ...]
    ancestors: tuple[Issued, ...]
    scopes: tuple[str, ...]
    until: int
    bind: bool = False
    transaction: str = ""
    details: str = ""
    over_at: int = 0
    application: str | None = None

    @property
    def basis(self) -> tuple[str, ...]:
        """The names by which a revocation can hit what rests on this."""
        own = (f"{self.kind.value}/{self.id}",) if self.id else ()
        return (*own, f"subject/{self.subject}", *(f"actor/{actor.subject}" for actor in self.actors))


def basis_of(origin: Origin | None, approval: Approved | None) -> tuple[str, ...]:
    """Return the names of what a token rests on, by which a revocation can hit it."""
    approved = () if approval is None else (f"approval/{approval.id}",)
    return (*origin.basis, *approved) if origin is not None else approved


def basis_from_texts(origin: str, approval: str) -> tuple[tuple[str, ...], tuple[Issued, ...]]:
    """Return what a recorded token rests on, by name, and the tokens above it.

    Args:
        origin: What its record holds of its origin.
        approval: And of the approval.

    Raises:
        ValueError, KeyError, TypeError: A text is of another kind.
    """
    approved = (f"approval/{json.loads(approval)['id']}",) if approval else ()
    rests_on = origin_from_text(origin)
    return (approved, ()) if rests_on is None else ((*rests_on.basis, *approved), rests_on.ancestors)


def origin_text(origin: Origin | None) -> str:
    """Return an origin as canonical JSON, for the record of a decision; empty for none."""
    if origin is None:
        return ""
    members = {field.name: getattr(origin, field.name) for field in fields(origin)}
    members["ancestors"] = [issued_members(each) for each in origin.ancestors]
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


def origin_from_text(text: str) -> Origin | None:
    """Return the origin of :func:`origin_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    if not text:
        return None
    members = json.loads(text)
    members["kind"] = OriginKind(members["kind"])
    members["actors"] = tuple(Actor(*actor) for actor in members["actors"])
    members["ancestors"] = tuple(_issued(each) for each in members["ancestors"])
    members["scopes"] = tuple(members["scopes"])
    return Origin(**members)


def issued_members(issued: Issued) -> dict[str, object]:
    """Return what revocations can tell of a token above, as members of a JSON object; what is above that is apart."""
    members = issued._asdict() | {"caller": str(issued.caller)}
    del members["ancestors"]
    return members


def _issued(members: Mapping[str, Any]) -> Issued:
    caller, rules, basis = SpiffeId.parse(members["caller"]), tuple(members["rules"]), tuple(members["basis"])
    return Issued(**{**members, "caller": caller, "rules": rules, "basis": basis})
