"""What an entry of the ledger takes that nobody can take again: a claim is written once, with its entry or not at all.

A claim's key names a step of something: ``approval/<request>/<number>``. Of two entries that would make the same step
one is written; who wanted the other looks again. A claim whose time was over when it is made again is none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from issuer.core.approval_state import Step, StepKind
from issuer.core.approval_text import question_from_text, step_text
from issuer.core.ledger_entries import ApprovalStep
from issuer.core.record import DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.ledger_entries import Entry

_APPROVAL: Final = "approval"
_QUESTION: Final = "question"


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


def approval_key(request: str, number: int) -> str:
    """Return the key of a step of a request for approval."""
    return f"{_APPROVAL}/{request}/{number}"


def approval_of_key(key: str) -> tuple[str, int] | None:
    """Return the request and the number of :func:`approval_key`; ``None`` for what is none."""
    kind, _, rest = key.partition("/")
    request, _, number = rest.partition("/")
    return (request, int(number)) if kind == _APPROVAL else None


def claims_of(entries: Iterable[Entry]) -> list[Claim]:
    """Return what entries take, in their order."""
    return [claim for entry in entries for claim in _claims_of(entry)]


def _claims_of(entry: Entry) -> Iterator[Claim]:
    if isinstance(entry, ApprovalStep):
        if entry.number == 1:
            # Two that ask the same at the same moment, at two issuers perhaps, ask once.
            question = question_from_text(entry.detail)
            key = f"{_QUESTION}/{question.asked.digest}/{question.follows}"
            yield Claim(key, entry.time, entry.actor, "", question.pending_until)
        key = approval_key(entry.request, entry.number)
        yield Claim(key, entry.time, entry.actor, entry.detail, entry.expires_at)
    elif isinstance(entry, DecisionRecord) and entry.approval and entry.token_id:  # nothing is used up without a token
        yield use_claim(entry.approval, entry.decision_id, entry.time, entry.caller)


def use_claim(approval: str, decision_id: bytes, time: int, caller: str) -> Claim:
    """Return what a decision takes that a token came of.

    Args:
        approval: What its record holds of the approval.
        decision_id: Its id.
        time: When it was made.
        caller: For whom.
    """
    approved = json.loads(approval)
    used = Step(StepKind.USE, caller, decision=str(UUID(bytes=decision_id)))
    return Claim(approval_key(approved["id"], approved["number"]), time, caller, step_text(used), approved["until"])
