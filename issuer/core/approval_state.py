"""The life of a request for approval, as one state machine. Pure: what was, what happened, and when.

::

    PENDING ──approve (quorum)──> APPROVED ──use (the last)──> USED_UP
       │  ──deny────────────────> DENIED      ──deny, cancel──> REVOKED
       │  ──cancel──────────────> CANCELLED   ──time──────────> EXPIRED
       └  ──time────────────────> EXPIRED

The rules:

 1. What is over stays as it is. Time alone ends what is not: nothing has to happen for that.
 2. Whom the policy names may approve, and who neither asked nor owns the grant; each person once.
 3. An approver only narrows: fewer scopes, never none, and a shorter lifetime. What one left out is out for all.
 4. It is approved once each scope that is left has its quorum of persons.
 5. One approver's no is enough. It also takes back what was approved.
 6. Who asked may take it back.
 7. Each token uses it up by one.
 8. A scope that needs persons is approved only with evidence of one, and the same evidence of a person counts once,
    whatever their SPIFFE IDs.

Each step has a number, and the ledger lets each number be taken once: of two steps that were made at the same time one
is refused there, and made again from what is then so. So every order in which they come is one of this machine's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.approvals import Approved
from issuer.core.approvers import person_of, scopes_of, why_not
from issuer.core.errors import Reason
from issuer.core.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from issuer.core.approval_evidence import Evidence
    from issuer.core.approval_request import Question


class Status(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    USED_UP = "used_up"
    REVOKED = "revoked"


COLLECTION: Final = "approvalRequests"
"""What the names of requests begin with (AIP-122)."""
_ENDS_BY_TIME = frozenset({Status.PENDING, Status.APPROVED})


class StepKind(StrEnum):
    """What can happen to a request."""

    APPROVE = "approve"
    DENY = "deny"
    CANCEL = "cancel"
    USE = "use"


class Step(NamedTuple):
    """Something that happens to a request.

    Attributes:
        kind: What.
        by: The SPIFFE ID of who does it.
        scopes: Of an approval: the scopes; ``None`` for all that this approver may approve.
        ttl: Of an approval: the longest lifetime of a token, in seconds; ``None`` for no bound of its own.
        why: What they say about it.
        development: By the embedded development authority, which attests nobody.
        decision: Of a use: the id of the decision.
        evidence: Of an approval: what proved that it is a person's; ``None`` for nothing.
    """

    kind: StepKind
    by: str
    scopes: tuple[str, ...] | None = None
    ttl: int | None = None
    why: str = ""
    development: bool = False
    decision: str = ""
    evidence: Evidence | None = None


class Given(NamedTuple):
    """One approver's yes: by whom, to which scopes, for how long, when, what they said, and what proved a person."""

    by: str
    scopes: tuple[str, ...]
    ttl: int | None
    time: int
    why: str
    development: bool
    evidence: Evidence | None = None


class Refusal(NamedTuple):
    """Why a step cannot be made."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A request for approval, and what came of it.

    Attributes:
        question: What was asked; it never changes.
        number: Of the last step; the question is the first.
        status: Where it stands, but for time: see :meth:`status_at`.
        until: When it ends by time, or when it ended; microseconds since 1970 UTC.
        given: Who approved.
        dropped: Scopes that an approver left out.
        ttl: The shortest lifetime that an approver set, in seconds.
        uses_left: For how many more tokens.
        ended_by: Who denied, cancelled or took it back.
        ended_why: What they said.
    """

    question: Question
    until: int
    number: int = 1
    status: Status = Status.PENDING
    given: tuple[Given, ...] = ()
    dropped: frozenset[str] = frozenset()
    ttl: int | None = None
    uses_left: int = 0
    ended_by: str = ""
    ended_why: str = ""

    @property
    def id(self) -> str:
        """Its id, a UUIDv7."""
        return self.question.id

    @property
    def scopes_left(self) -> tuple[str, ...]:
        """The scopes that are asked about and that nobody left out."""
        return tuple(need.scope for need in self.question.needs if need.scope not in self.dropped)

    def status_at(self, now: int) -> Status:
        """Return where it stands at a moment (rule 1)."""
        return Status.EXPIRED if self.status in _ENDS_BY_TIME and now >= self.until else self.status

    def approved_at(self, now: int) -> Approved | None:
        """Return what a decision at that moment may count on; ``None`` unless it is approved."""
        if self.status_at(now) is not Status.APPROVED:
            return None
        return Approved(
            id=self.id,
            number=self.number + 1,
            digest=self.question.asked.digest,
            application=self.question.asked.application,
            scopes=self.scopes_left,
            ttl=self.ttl,
            until=self.until,
            uses=self.uses_left,
        )


def name_of(request: ApprovalRequest) -> str:
    """Return a request's name, as callers know it."""
    return f"{COLLECTION}/{request.id}"


def begin(question: Question) -> ApprovalRequest:
    """Return a request that nobody has answered yet."""
    return ApprovalRequest(question, until=question.pending_until)


def apply(request: ApprovalRequest, step: Step, now: int) -> ApprovalRequest | Refusal:
    """Return what a step at ``now`` makes of a request, or why it cannot be made."""
    status = request.status_at(now)
    if status not in _ENDS_BY_TIME:  # 1
        return Refusal(Reason.APPROVAL_NOT_OPEN, f"this request is {status.replace('_', ' ')}")
    return _STEPS[step.kind](request, step, now)


def _use(request: ApprovalRequest, _: Step, now: int) -> ApprovalRequest | Refusal:  # 7
    if request.status is not Status.APPROVED:
        return Refusal(Reason.APPROVAL_NOT_OPEN, "this request is not approved")
    if request.uses_left == 1:
        return _ended(request, Status.USED_UP, now)
    return replace(request, number=request.number + 1, uses_left=request.uses_left - 1)


def _deny(request: ApprovalRequest, step: Step, now: int) -> ApprovalRequest | Refusal:  # 5
    if not scopes_of(request.question.needs, SpiffeId.parse(step.by)):
        return _not_an_approver()
    return _ended(request, Status.DENIED if request.status is Status.PENDING else Status.REVOKED, now, step)


def _cancel(request: ApprovalRequest, step: Step, now: int) -> ApprovalRequest | Refusal:  # 6
    if step.by != request.question.asked.caller:
        return Refusal(Reason.APPROVER_NOT_ALLOWED, "only who asked may cancel")
    return _ended(request, Status.CANCELLED if request.status is Status.PENDING else Status.REVOKED, now, step)


def _approve(request: ApprovalRequest, step: Step, now: int) -> ApprovalRequest | Refusal:
    approver = SpiffeId.parse(step.by)
    may = [scope for scope in scopes_of(request.question.needs, approver) if scope not in request.dropped]
    if refusal := _eligible(request, approver, may, step.evidence):  # 2
        return refusal
    if request.status is not Status.PENDING:
        return Refusal(Reason.APPROVAL_NOT_OPEN, "this request is approved already")
    scopes = tuple(may) if step.scopes is None else step.scopes
    if refusal := _narrower(request, scopes, may, step.ttl):  # 3
        return refusal
    if step.evidence is None and any(need.human and need.scope in scopes for need in request.question.needs):  # 8
        return Refusal(Reason.EVIDENCE_REQUIRED, "a person has to approve this: bring an ID token")
    given = (*request.given, Given(step.by, scopes, step.ttl, now, step.why, step.development, step.evidence))
    answered = replace(
        request,
        number=request.number + 1,
        given=given,
        dropped=request.dropped.union(may).difference(scopes),
        ttl=min((each.ttl for each in given if each.ttl is not None), default=None),
    )
    if not _is_complete(answered):  # 4
        return answered
    question = request.question
    return replace(answered, status=Status.APPROVED, until=now + question.valid_for, uses_left=question.uses)


def _eligible(
    request: ApprovalRequest, approver: SpiffeId, may: list[str], evidence: Evidence | None
) -> Refusal | None:
    if not may:
        return _not_an_approver()
    if why := why_not(request.question, approver):
        return Refusal(Reason.APPROVER_NOT_ALLOWED, why)
    for each in request.given:
        if each.by == str(approver):
            return Refusal(Reason.APPROVAL_NOT_OPEN, "this approver has approved it already")
        known = evidence is not None and each.evidence is not None and each.evidence.person == evidence.person  # 8
        if known or person_of(SpiffeId.parse(each.by)) == person_of(approver):
            return Refusal(Reason.APPROVER_NOT_ALLOWED, "the same person approved it under another SPIFFE ID")
    return None


def _narrower(request: ApprovalRequest, scopes: tuple[str, ...], may: list[str], ttl: int | None) -> Refusal | None:
    if not scopes or len(set(scopes)) != len(scopes) or not set(scopes) <= set(may):
        return Refusal(Reason.REQUEST_INVALID, "scopes: name some of those that this approver may approve, each once")
    least, most = request.question.min_ttl, request.question.lifetime
    if ttl is not None and not least <= ttl <= most:
        return Refusal(Reason.REQUEST_INVALID, f"ttl: from {least} s to {most} s: an approval only shortens")
    return None


def _is_complete(request: ApprovalRequest) -> bool:
    left = request.scopes_left
    needed = {need.scope: need.quorum for need in request.question.needs}
    return all(sum(scope in each.scopes for each in request.given) >= needed[scope] for scope in left)


def _ended(request: ApprovalRequest, status: Status, now: int, step: Step | None = None) -> ApprovalRequest:
    return replace(
        request,
        number=request.number + 1,
        status=status,
        until=now,
        uses_left=0,
        ended_by=step.by if step else "",
        ended_why=step.why if step else "",
    )


def _not_an_approver() -> Refusal:
    return Refusal(Reason.APPROVER_NOT_ALLOWED, "policy does not name this identity among the approvers")


_STEPS: Final[Mapping[StepKind, Callable[[ApprovalRequest, Step, int], ApprovalRequest | Refusal]]] = {
    StepKind.APPROVE: _approve,
    StepKind.DENY: _deny,
    StepKind.CANCEL: _cancel,
    StepKind.USE: _use,
}
