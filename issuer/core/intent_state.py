"""The life of an intent, as one state machine. Pure: what was, what happened, and when.

::

    REGISTERED ──use (the last)──> REDEEMED
        │      ──cancel──────────> CANCELLED
        └      ──time────────────> EXPIRED, and told once

The rules:

 1. What is over stays as it is. Time alone ends what is not.
 2. Its consumer redeems it, nobody else; not before its window, and not after.
 3. Each token uses it up by one.
 4. Who registered it may take it back, and so may an operator.
 5. That it ended without being used up is told once, by the issuer itself, and not before it is so.

Each step has a number, and the ledger lets each number be taken once: of two steps that were made at the same time one
is refused there, and made again from what is then so. So every order in which they come is one of this machine's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.approval_state import Refusal
from issuer.core.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from issuer.core.intent_registration import Registration

COLLECTION: Final = "intents"
"""What the names of intents begin with (AIP-122)."""


class Status(StrEnum):
    """Where an intent stands."""

    REGISTERED = "registered"
    REDEEMED = "redeemed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class StepKind(StrEnum):
    """What can happen to an intent."""

    USE = "use"
    CANCEL = "cancel"
    EXPIRE = "expire"


class Step(NamedTuple):
    """Something that happens to an intent.

    Attributes:
        kind: What.
        by: The SPIFFE ID of who does it; empty for the issuer itself.
        why: What they say about it.
        operator: It is an operator.
        decision: Of a use: the id of the decision.
    """

    kind: StepKind
    by: str
    why: str = ""
    operator: bool = False
    decision: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredIntent:
    """An intent, and what became of it.

    Attributes:
        registration: What was registered; it never changes.
        uses_left: For how many more tokens.
        number: Of the last step; the registration is the first.
        status: Where it stands, but for time: see :meth:`status_at`.
        decisions: The ids of the decisions that used it.
        ended_at: When it was used up, taken back or told to have expired, microseconds since 1970 UTC; 0 before.
        ended_by: Who took it back.
        ended_why: What they said.
    """

    registration: Registration
    uses_left: int
    number: int = 1
    status: Status = Status.REGISTERED
    decisions: tuple[str, ...] = ()
    ended_at: int = 0
    ended_by: str = ""
    ended_why: str = ""

    @property
    def id(self) -> str:
        """Its id, a UUIDv7."""
        return self.registration.id

    def status_at(self, now: int) -> Status:
        """Return where it stands at a moment (rule 1)."""
        is_over = self.status is Status.REGISTERED and now >= self.registration.expires_at
        return Status.EXPIRED if is_over else self.status


def name_of(intent: RegisteredIntent) -> str:
    """Return an intent's name, as callers know it."""
    return f"{COLLECTION}/{intent.id}"


def begin(registration: Registration) -> RegisteredIntent:
    """Return an intent that nobody has redeemed yet."""
    return RegisteredIntent(registration, registration.uses)


def apply(intent: RegisteredIntent, step: Step, now: int) -> RegisteredIntent | Refusal:
    """Return what a step at ``now`` makes of an intent, or why it cannot be made."""
    if intent.status is not Status.REGISTERED:  # 1
        return Refusal(Reason.INTENT_NOT_OPEN, f"this intent is {intent.status}")
    return _STEPS[step.kind](intent, step, now)


def _use(intent: RegisteredIntent, step: Step, now: int) -> RegisteredIntent | Refusal:
    if step.by != intent.registration.consumer:  # 2
        return Refusal(Reason.INTENT_NOT_YOURS, "only its consumer redeems an intent")
    if now < intent.registration.not_before:
        return Refusal(Reason.INTENT_NOT_YET, "the window of this intent has not begun")
    if now >= intent.registration.expires_at:
        return _is_expired()
    decisions = (*intent.decisions, step.decision)
    if intent.uses_left == 1:  # 3
        return replace(_ended(intent, Status.REDEEMED, now), decisions=decisions)
    return replace(intent, number=intent.number + 1, uses_left=intent.uses_left - 1, decisions=decisions)


def _cancel(intent: RegisteredIntent, step: Step, now: int) -> RegisteredIntent | Refusal:  # 4
    if not step.operator and step.by != intent.registration.registrar:
        return Refusal(Reason.INTENT_NOT_YOURS, "only who registered an intent may take it back")
    if now >= intent.registration.expires_at:
        return _is_expired()
    return replace(_ended(intent, Status.CANCELLED, now), ended_by=step.by, ended_why=step.why)


def _expire(intent: RegisteredIntent, _: Step, now: int) -> RegisteredIntent | Refusal:  # 5
    if now < intent.registration.expires_at:
        return Refusal(Reason.INTENT_NOT_OPEN, "the window of this intent is not over")
    return replace(_ended(intent, Status.EXPIRED, now), uses_left=intent.uses_left)


def _ended(intent: RegisteredIntent, status: Status, now: int) -> RegisteredIntent:
    return replace(intent, number=intent.number + 1, status=status, ended_at=now, uses_left=0)


def _is_expired() -> Refusal:
    return Refusal(Reason.INTENT_NOT_OPEN, f"this intent is {Status.EXPIRED}")


_STEPS: Final[Mapping[StepKind, Callable[[RegisteredIntent, Step, int], RegisteredIntent | Refusal]]] = {
    StepKind.USE: _use,
    StepKind.CANCEL: _cancel,
    StepKind.EXPIRE: _expire,
}
