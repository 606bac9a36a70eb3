"""Decides a recorded request again from what was recorded of it.

Under the policy that decided it the answer is the recorded one, always; under another, what differs is what that policy
would change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from issuer.core.approval_text import approval_from_text
from issuer.core.approvals import NOTHING_APPROVED, Approvals, RecordedApproval
from issuer.core.caller import Caller
from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.errors import IssuerError, Reason
from issuer.core.fact_text import facts_from_text
from issuer.core.instants import moment
from issuer.core.origin import origin_from_text
from issuer.core.record import Flag, Outcome, record_decision
from issuer.core.revocations import NOTHING_REVOKED, Revocations
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from issuer.core.decision import Denial
    from issuer.core.facts import Facts
    from issuer.core.origin import Origin
    from issuer.core.policy import Policy
    from issuer.core.record import DecisionRecord
    from issuer.core.revocation import Revocation

DECIDED: Final = (
    "outcome",
    "reason",
    "application",
    "scopes",
    "scopes_refused",
    "rules",
    "missing",
    "lifetime",
    "lifetime_bound",
    "lifetime_rule",
    "flags",
    "audit",
    "approval",
)
"""The fields of a record that are the decision's, rather than the request's."""


class NotReplayable(Exception):
    """A record does not hold what its decision was made from; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a decision was made from.

    Attributes:
        caller: Who asked.
        request: For what.
        facts: What was known.
        now: When.
        revocations: What stopped it, as it was then; nothing when nothing did.
        approvals: The approval that it read, for this very request whatever the policy.
        origin: What the token rests on beside the caller's own right.
    """

    caller: Caller
    request: TokenRequest
    facts: Facts
    now: datetime
    revocations: Revocations = NOTHING_REVOKED
    approvals: Approvals = NOTHING_APPROVED
    origin: Origin | None = None


class Change(StrEnum):
    """How another policy answers a recorded request."""

    SAME = "same"
    NEWLY_GRANTED = "newly granted"
    NEWLY_DENIED = "newly denied"
    OTHER_REASON = "denied for another reason"
    OTHER_SCOPES = "other scopes"
    OTHER_LIFETIME = "other lifetime"
    OTHER_TERMS = "other terms"
    """The same scopes for the same time, on behalf of another application, or bound otherwise."""


class Told(NamedTuple):
    """What of an answer is compared: the reason of a refusal, or what a token would be."""

    reason: str
    scopes: str
    lifetime: int | None
    application: str
    bound: bool


def _no_revocation(_revocation_id: str) -> Revocation | None:
    return None


def recorded(record: DecisionRecord, revocation_of: Callable[[str], Revocation | None] = _no_revocation) -> Recorded:
    """Return what a decision was made from.

    Args:
        record: What was recorded.
        revocation_of: Finds a revocation by its id. A refusal with the reason REVOKED names the one that stopped it; of
            revocations that did not, nothing is recorded.

    Raises:
        NotReplayable: Nothing was decided: the request could not be read, or the policy was away. Or it was stopped by
            a revocation that is not there.
    """
    if not record.policy:
        raise NotReplayable("nothing was decided")
    sha256, serial, not_after = record.svid.split(" ")
    try:
        request = TokenRequest(
            audience=record.audience,
            scopes=tuple(record.scopes_asked.split(" ")),
            ttl=None if record.ttl_asked is None else timedelta(microseconds=record.ttl_asked),
            application=record.application_asked or None,
            bind_certificate=bool(record.flags & Flag.BIND_ASKED),
            allow_partial=bool(record.flags & Flag.ALLOW_PARTIAL),
            intent=Intent(**json.loads(record.intent)) if record.intent else None,
            grant_type=GrantType(record.grant_type),
        )
        spiffe_id = SpiffeId.parse(record.caller)
        approvals = RecordedApproval(approval_from_text(record.approval)) if record.approval else NOTHING_APPROVED
        origin = origin_from_text(record.origin)
    except (IssuerError, ValueError, TypeError, KeyError) as error:
        raise NotReplayable(f"cannot be read: {error}") from None
    caller = Caller(spiffe_id, bytes.fromhex(sha256), int(serial, 16), moment(int(not_after)))
    stopped_by = _stopped_by(record, revocation_of)
    return Recorded(caller, request, facts_from_text(record.facts), moment(record.time), stopped_by, approvals, origin)


def _stopped_by(record: DecisionRecord, revocation_of: Callable[[str], Revocation | None]) -> Revocations:
    if record.reason != Reason.REVOKED:
        return NOTHING_REVOKED
    if (found := revocation_of(record.rules)) is None:
        raise NotReplayable("the revocation that stopped it is not there")
    # As it was then: not lifted yet, and if it is that of a key, of the key that was in use.
    return Revocations([replace(found, lifted=None)], key_id=found.selector.key or "")


def differing_fields(record: DecisionRecord, inputs: Recorded, policy: Policy) -> tuple[str, ...]:
    """Return which fields of a record its own policy would fill otherwise: none, or this program has a defect.

    Args:
        record: What was recorded.
        inputs: What :func:`recorded` says of it.
        policy: The one that decided it.
    """
    again = record_decision(
        _decided_again(policy, inputs),
        decision_id=str(UUID(bytes=record.decision_id)),
        caller=inputs.caller,
        peer=record.peer,
        request=inputs.request,
        facts=inputs.facts,
        now=inputs.now,
        validate_only=bool(record.flags & Flag.VALIDATE_ONLY),
    )
    failed = record.outcome == Outcome.ERROR  # granted, and then not issued: the grant itself is recorded
    compared = (field for field in DECIDED if not (failed and field in {"outcome", "reason"}))
    return tuple(field for field in compared if getattr(again, field) != getattr(record, field))


def told_before(record: DecisionRecord) -> Told:
    """Return the answer that was recorded."""
    granted = record.outcome != Outcome.DENIED
    bound = bool(record.flags & Flag.BOUND)
    return Told("" if granted else record.reason, record.scopes, record.lifetime, record.application, bound)


def told_by(policy: Policy, inputs: Recorded) -> Told:
    """Return what a policy would have answered."""
    return _told(_decided_again(policy, inputs))


def change(before: Told, after: Told) -> Change:
    """Return how an answer differs from the recorded one; of several differences the gravest."""
    if before == after:
        return Change.SAME
    if before.reason and after.reason:
        return Change.OTHER_REASON
    if before.reason:
        return Change.NEWLY_GRANTED
    if after.reason:
        return Change.NEWLY_DENIED
    if before.scopes != after.scopes:
        return Change.OTHER_SCOPES
    return Change.OTHER_LIFETIME if before.lifetime != after.lifetime else Change.OTHER_TERMS


def _decided_again(policy: Policy, inputs: Recorded) -> Grant | Denial:
    return decide(
        policy,
        inputs.caller,
        inputs.request,
        inputs.facts,
        inputs.now,
        revocations=inputs.revocations,
        approvals=inputs.approvals,
        origin=inputs.origin,
    )


def _told(decision: Grant | Denial) -> Told:
    if isinstance(decision, Grant):
        lifetime = decision.lifetime // timedelta(seconds=1)
        return Told("", " ".join(decision.scopes), lifetime, decision.application or "", decision.bind_certificate)
    return Told(decision.reason.value, "", None, "", bound=False)
