"""Asking for approvals and answering: what comes between a verified caller and the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from issuer.core.approval_need import Lacking, Needed, find_needed
from issuer.core.approval_request import Question, asked_for
from issuer.core.approval_state import ApprovalRequest, Refusal, Status, Step, StepKind, apply
from issuer.core.approval_text import question_text, step_text
from issuer.core.approvers import scopes_of
from issuer.core.decision import Denial
from issuer.core.denial_text import explain
from issuer.core.errors import (
    AdminRefused,
    FieldViolation,
    InvalidTokenRequest,
    PolicyDenied,
    Reason,
    TemporarilyUnavailable,
)
from issuer.core.facts_needed import facts_needed
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import (
    APPROVAL,
    APPROVAL_CANCELLED,
    APPROVAL_DENIED,
    APPROVAL_GIVEN,
    APPROVAL_REQUESTED,
    StepTaken,
)
from issuer.core.record import record_decision
from issuer.core.stated_reason import check_why
from issuer.fact_lookup import known_facts
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from issuer.core.approval_book import ApprovalBook
    from issuer.core.caller import Caller
    from issuer.core.policy import Policy
    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.token_request import TokenRequest
    from issuer.evidencing import Evidencing
    from issuer.issuance import Asked
    from issuer.ports import Clock, FactBook, Ids, Ledger, PolicyBook, RevocationBook

MAX_OPEN: Final = 20
"""Requests of one caller that wait for an answer: what a person can still tell apart on one page."""
MAX_KEPT: Final = 200
"""Requests of one caller that can still matter, answered ones included: who asks and cancels without end is stopped."""
MAX_FOR_APPROVERS: Final = 200
"""Requests that wait for one pattern of approvers: more than people answer."""
MAX_TRIES: Final = 5
"""So often a step is made again because another was made at the same moment."""
LOOK_SECONDS: Final = 2.0
"""So often somebody who waits hears that nothing happened."""

_EVENTS: Final = {
    StepKind.APPROVE: APPROVAL_GIVEN,
    StepKind.DENY: APPROVAL_DENIED,
    StepKind.CANCEL: APPROVAL_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody says to a request for approval.

    Attributes:
        kind: Approve, deny or cancel.
        scopes: Of an approval: only these; ``None`` for all that the approver may approve.
        ttl: Of an approval: the longest lifetime of a token, in seconds.
        why: For people.
        id_token: Of an approval: what proves that it is a person's; empty for nothing. A secret.
    """

    kind: StepKind
    scopes: tuple[str, ...] | None = None
    ttl: int | None = None
    why: str = ""
    id_token: str = field(default="", repr=False)


class Approving:
    """Takes questions and answers. What it knows is in the book, which the ledger keeps.

    Args:
        policies: The policy in force.
        facts: What feeders told.
        ids: Where identifiers come from.
        ledger: Where each step is, before it takes effect.
        revocations: Those that hold.
        approvals: What was asked and answered.
        clock: When somebody who waits is told.
        evidencing: What proves that a person approves.
        development: The callers are of the embedded development authority: what they approve is marked.
    """

    def __init__(
        self,
        *,
        policies: PolicyBook,
        facts: FactBook,
        ids: Ids,
        ledger: Ledger,
        revocations: RevocationBook,
        approvals: ApprovalBook,
        clock: Clock,
        evidencing: Evidencing,
        development: bool = False,
    ) -> None:
        self._policies = policies
        self._facts = facts
        self._ids = ids
        self._ledger = ledger
        self._revocations = revocations
        self._approvals = approvals
        self._clock = clock
        self._evidencing = evidencing
        self._development = development

    async def ask(self, asked: Asked, request: TokenRequest, why: str) -> ApprovalRequest:
        """Ask for an approval of exactly ``request``; the one that is open for the same, if there is one.

        Raises:
            PolicyDenied: It would be refused even with an approval.
            InvalidTokenRequest: ``why`` is too long.
            AdminRefused: APPROVAL_NOT_OPEN, when it needs no approval now; TOO_MANY_APPROVALS.
            TemporarilyUnavailable: The policy or the ledger is away. It may be asked all the same: repeat it.
        """
        check_why(why)
        now, caller = microseconds(asked.now), str(asked.caller.spiffe_id)
        for _ in range(MAX_TRIES):
            policy, revocations = self._policies.current(), self._revocations.current()
            keys = facts_needed(policy, asked.caller, request)
            facts = await known_facts(self._facts, keys, policy, asked.caller, asked.now)
            approvals = self._approvals.approved_for(asked.caller.spiffe_id, asked.now)
            lacking = find_needed(
                policy, asked.caller, request, facts, asked.now, revocations=revocations, approvals=approvals
            )
            decision_id = self._ids.fresh_id(asked.now)
            record = record_decision(
                lacking.decision,
                decision_id=decision_id,
                caller=asked.caller,
                peer=asked.peer,
                request=request,
                facts=facts,
                now=asked.now,
                validate_only=True,
            )
            if (needed := lacking.needed) is None:
                await self._ledger.write(record, within=asked.within)
                raise _not_requestable(lacking, decision_id)
            if known := self._approvals.same(caller, needed.asked.digest, now):
                return known
            self._check_bounds(caller, needed, now)
            question = self._question(asked, needed, decision_id, why, policy)
            step = StepTaken(
                APPROVAL_REQUESTED, APPROVAL, question.id, 1, now, caller, question_text(question), question.over_at
            )
            try:
                await self._ledger.write(record, step, within=asked.within, epoch=revocations.epoch)
            except (EpochMoved, ClaimTaken):
                continue
            return self._known(question.id)
        raise _overtaken()

    def _question(self, asked: Asked, needed: Needed, decision_id: str, why: str, policy: Policy) -> Question:
        return Question(
            id=self._ids.fresh_id(asked.now),
            asked=needed.asked,
            needs=needed.needs,
            why=why,
            owners=needed.owners,
            created=microseconds(asked.now),
            decision=decision_id,
            lifetime=needed.lifetime,
            min_ttl=int(policy.min_ttl.total_seconds()),
            follows=self._approvals.last_like(needed.asked.caller, needed.asked.digest),
        )

    async def answer(self, asked: Asked, request_id: str, answer: Answer, *, sees_all: bool) -> ApprovalRequest:
        """Approve, deny or cancel; the same answer again changes nothing.

        Args:
            asked: By whom, when.
            request_id: Of the request.
            answer: What.
            sees_all: The caller may see every request.

        Raises:
            AdminRefused: APPROVAL_UNKNOWN, APPROVAL_NOT_OPEN, APPROVER_NOT_ALLOWED, EVIDENCE_REQUIRED,
                EVIDENCE_REFUSED.
            InvalidTokenRequest: It would widen what was asked.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be answered all the same: look before repeating it.
                OIDC_ISSUER_UNAVAILABLE: nothing was answered.
        """
        check_why(answer.why)
        asked_about = self.get(asked.caller, request_id, sees_all=sees_all).question
        by, evidence = await self._evidencing.take(answer.id_token, asked_about, asked)
        now = microseconds(asked.now)
        step = Step(answer.kind, by, answer.scopes, answer.ttl, answer.why, self._development, evidence=evidence)
        for _ in range(MAX_TRIES):
            known = self.get(asked.caller, request_id, sees_all=sees_all)
            if _said_before(known, step):
                return known
            after = apply(known, step, now)
            if isinstance(after, Refusal):
                raise _refused(after)
            said = step._replace(scopes=after.given[-1].scopes) if answer.kind is StepKind.APPROVE else step
            entry = StepTaken(
                _EVENTS[answer.kind], APPROVAL, known.id, after.number, now, by, step_text(said), known.question.over_at
            )
            try:
                await self._ledger.write(entry, within=asked.within)
            except ClaimTaken:
                continue
            return self._known(known.id)
        raise _overtaken()

    def is_gateway(self, caller: Caller) -> bool:
        """Return whether a caller may bring what others approve, and so sees it."""
        return self._evidencing.is_gateway(caller.spiffe_id)

    def get(self, caller: Caller, request_id: str, *, sees_all: bool) -> ApprovalRequest:
        """Return a request that this caller made, or may answer.

        Raises:
            AdminRefused: APPROVAL_UNKNOWN; another's is not told apart from none.
        """
        known = self._approvals.get(request_id)
        if known is None or not (sees_all or _concerns(known, caller.spiffe_id)):
            raise AdminRefused(Reason.APPROVAL_UNKNOWN, "no request for approval of this name concerns this caller")
        return known

    def find(self, caller: Caller, request: TokenRequest, now: datetime) -> ApprovalRequest | None:
        """Return what was asked for exactly this and is open, or was denied; ``None`` for nothing.

        What was asked under another policy counts for nothing, and is not named.

        Raises:
            TemporarilyUnavailable: The policy is away.
        """
        wanted = asked_for(caller.spiffe_id, request, None, self._policies.current().digest)
        for known in self._approvals.of_caller(wanted.caller):
            asked = known.question.asked
            same_scopes = asked.scopes == wanted.scopes  # first, because it costs little: a batch looks up to 256 times
            if same_scopes and asked == replace(wanted, application=asked.application):
                return self._approvals.same(asked.caller, asked.digest, microseconds(now))
        return None

    def list_mine(self, caller: Caller) -> Iterator[ApprovalRequest]:
        """Yield what this caller asked for, the newest first."""
        return (each for each in self._approvals if each.question.asked.caller == str(caller.spiffe_id))

    def list_to_decide(self, caller: Caller, now: datetime) -> Iterator[ApprovalRequest]:
        """Yield what waits for an answer that this caller may give, the newest first."""
        time = microseconds(now)
        step = Step(StepKind.APPROVE, str(caller.spiffe_id))
        return (each for each in self._approvals if _may_answer(apply(each, step, time)))

    def list_all(self) -> Iterator[ApprovalRequest]:
        """Yield every request that can still matter, the newest first."""
        return iter(self._approvals)

    async def changes(
        self, caller: Caller, request_id: str, *, sees_all: bool
    ) -> AsyncIterator[tuple[ApprovalRequest | None, datetime]]:
        """Yield a request now, whenever something happened to it, and when its time is over, with the time.

        Yields ``None`` when nothing happened for a while.

        Raises:
            AdminRefused: APPROVAL_UNKNOWN.
        """
        changed = asyncio.Event()
        stop = self._approvals.watch(changed.set)
        told: tuple[int, Status] | None = None
        try:
            while True:
                changed.clear()
                known = self.get(caller, request_id, sees_all=sees_all)
                now = self._clock.now()
                state = known.number, known.status_at(microseconds(now))
                yield (known if state != told else None), now
                told = state
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    pass
        finally:
            stop()

    def _known(self, request_id: str) -> ApprovalRequest:
        known = self._approvals.get(request_id)
        if known is None:
            raise _overtaken()
        return known

    def _check_bounds(self, caller: str, needed: Needed, now: int) -> None:
        mine = self._approvals.of_caller(caller)
        if len(mine) >= MAX_KEPT or sum(each.status_at(now) is Status.PENDING for each in mine) >= MAX_OPEN:
            raise AdminRefused(
                Reason.TOO_MANY_APPROVALS,
                f"this caller has asked too often: {MAX_OPEN} requests may wait, and {MAX_KEPT} be kept",
            )
        approvers = {pattern for need in needed.needs for pattern in need.approvers}
        waiting = [each for each in self._approvals if each.status_at(now) is Status.PENDING]
        for pattern in approvers:
            if (
                sum(any(pattern in need.approvers for need in each.question.needs) for each in waiting)
                >= MAX_FOR_APPROVERS
            ):
                raise AdminRefused(
                    Reason.TOO_MANY_APPROVALS, f"{MAX_FOR_APPROVERS} requests wait for the same approvers already"
                )


def _may_answer(answered: ApprovalRequest | Refusal) -> bool:
    """Return whether an approval would count, perhaps with evidence that it came without."""
    return isinstance(answered, ApprovalRequest) or answered.reason is Reason.EVIDENCE_REQUIRED


def _said_before(known: ApprovalRequest, step: Step) -> bool:
    """Return whether this is the answer that the same approver gave: a call is repeated when its answer was lost."""
    if step.kind is StepKind.APPROVE:
        return any(
            each.by == step.by and step.scopes in (None, each.scopes) and (each.ttl, each.why) == (step.ttl, step.why)
            for each in known.given
        )
    return known.ended_by == step.by and known.ended_why == step.why


def _concerns(known: ApprovalRequest, spiffe_id: SpiffeId) -> bool:
    return known.question.asked.caller == str(spiffe_id) or bool(scopes_of(known.question.needs, spiffe_id))


def _not_requestable(lacking: Lacking, decision_id: str) -> PolicyDenied | AdminRefused:
    decision = lacking.decision
    if lacking.reason is None or not isinstance(decision, Denial):
        return AdminRefused(Reason.APPROVAL_NOT_OPEN, "nothing of this needs an approval now: ask for the token")
    text = f"no approval would help: {explain(Denial(lacking.reason, (), (), decision.policy_digest))}"
    return PolicyDenied(lacking.reason, text, decision_id=decision_id)


def _refused(refusal: Refusal) -> InvalidTokenRequest | AdminRefused:
    if refusal.reason is Reason.REQUEST_INVALID:
        field, _, text = refusal.message.partition(": ")
        return InvalidTokenRequest((FieldViolation(field, text),))
    return AdminRefused(refusal.reason, refusal.message)


def _overtaken() -> TemporarilyUnavailable:
    return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "others answer at the same moment; look what became of it")
