"""What an entry of the ledger takes that nobody can take again: a claim is written once, with its entry or not at all.

A claim's key names a step of something: ``approval/<id>/<number>``, and so of intents and windows of access. Of two
entries that would make the same step one is written; who wanted the other looks again. A claim whose time was over when
it is made again is none.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from issuer.core.access_text import opening_from_text
from issuer.core.approval_state import Step, StepKind
from issuer.core.approval_text import question_from_text, step_text
from issuer.core.intent_steps import registration_from_text
from issuer.core.ledger_entries import ACCESS, APPROVAL, INTENT, StepTaken, detail
from issuer.core.origin import origin_from_text
from issuer.core.record import DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.ledger_entries import Entry

_QUESTION: Final = "question"
_OPENING: Final = "opening"
_REGISTRATION: Final = "registration"


class Claim(NamedTuple):
    """Something that was taken.

    Attributes:
        key: What; unique in a ledger.
        time: When, microseconds since 1970 UTC.
        actor: By whom.
        detail: What came of it, as JSON.
        expires_at: When it matters to nobody any more, microseconds since 1970 UTC.
    """

    key: str
    time: int
    actor: str
    detail: str
    expires_at: int


class ClaimRow(NamedTuple):
    """A claim as a ledger holds it; ``version`` is which one it was."""

    version: int
    key: str
    time: int
    actor: str
    detail: str
    expires_at: int


def step_key(of: str, name: str, number: int) -> str:
    """Return the key of a step of something, which is one of :data:`~issuer.core.ledger_entries.STEPS_OF`."""
    return f"{of}/{name}/{number}"


def step_of_key(of: str, key: str) -> tuple[str, int] | None:
    """Return the id and the number of :func:`step_key`; ``None`` for the key of anything else."""
    kind, _, rest = key.partition("/")
    name, _, number = rest.partition("/")
    return (name, int(number)) if kind == of else None


def claims_of(entries: Iterable[Entry]) -> list[Claim]:
    """Return what entries take, in their order."""
    return [claim for entry in entries for claim in _claims_of(entry)]


def _claims_of(entry: Entry) -> Iterator[Claim]:
    if isinstance(entry, StepTaken):
        if entry.number == 1:
            yield from _asked_once(entry)
        key = step_key(entry.of, entry.id, entry.number)
        yield Claim(key, entry.time, entry.actor, entry.detail, entry.expires_at)
    # Nothing is used up without a token, and most tokens rest on nothing that can be.
    elif isinstance(entry, DecisionRecord) and entry.token_id and (entry.approval or entry.origin):
        yield from uses(entry.approval, entry.origin, entry.decision_id, entry.time, entry.caller)


def _asked_once(entry: StepTaken) -> Iterator[Claim]:
    """Yield what keeps two from being begun that are asked for at the same moment, at two issuers perhaps."""
    if entry.of == APPROVAL:
        question = question_from_text(entry.detail)
        key = f"{_QUESTION}/{question.asked.digest}/{question.follows}"
        yield Claim(key, entry.time, entry.actor, "", question.pending_until)
    elif entry.of == ACCESS:
        opening = opening_from_text(entry.detail)
        if opening.request:
            named = sha256(f"{entry.actor} {opening.request}".encode()).hexdigest()
            yield Claim(f"{_OPENING}/{named}", entry.time, entry.actor, "", entry.expires_at)
        yield from uses(opening.approval, "", UUID(opening.decision).bytes, entry.time, entry.actor)
    elif entry.of == INTENT and (request := registration_from_text(entry.detail).request_id):
        named = sha256(f"{entry.actor} {request}".encode()).hexdigest()
        yield Claim(f"{_REGISTRATION}/{named}", entry.time, entry.actor, "", entry.expires_at)


def uses(approval: str, origin: str, decision_id: bytes, time: int, caller: str) -> Iterator[Claim]:
    """Yield what a decision takes that a token, or a window of access, came of.

    A token of a window takes nothing of the approval that opening it used: that has the number 0 there.

    Args:
        approval: What its record holds of the approval.
        origin: What it holds of the origin.
        decision_id: Its id.
        time: When it was made.
        caller: For whom.

    Raises:
        ValueError, KeyError, TypeError: A text is of another kind.
    """
    decision = str(UUID(bytes=decision_id))
    if approval and (approved := json.loads(approval))["number"]:
        used = step_text(Step(StepKind.USE, caller, decision=decision))
        yield Claim(step_key(APPROVAL, approved["id"], approved["number"]), time, caller, used, approved["until"])
    if (rests_on := origin_from_text(origin)) is not None and rests_on.number:
        used = detail({"decision": decision, "kind": "use"})
        yield Claim(step_key(rests_on.kind.value, rests_on.id, rests_on.number), time, caller, used, rests_on.over_at)
