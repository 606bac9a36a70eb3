"""What an entry of the ledger takes that nobody can take again: a claim is written once, with its entry or not at all.

A claim's key names a step of something: ``approval/<request>/<number>``, ``access/<window>/<number>``. Of two entries
that would make the same step one is written; who wanted the other looks again. A claim whose time was over when it is
made again is none.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from issuer.core.access_text import opening_from_text
from issuer.core.approval_state import Step, StepKind
from issuer.core.approval_text import question_from_text, step_text
from issuer.core.ledger_entries import AccessStep, ApprovalStep
from issuer.core.record import DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.ledger_entries import Entry

_APPROVAL: Final = "approval"
_QUESTION: Final = "question"
_ACCESS: Final = "access"
_ACCESS_REQUEST: Final = "access-request"


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
    return _step_of(_APPROVAL, key)


def access_key(access: str, number: int) -> str:
    """Return the key of a step of a window of access."""
    return f"{_ACCESS}/{access}/{number}"


def access_of_key(key: str) -> tuple[str, int] | None:
    """Return the window and the number of :func:`access_key`; ``None`` for what is none."""
    return _step_of(_ACCESS, key)


def _step_of(wanted: str, key: str) -> tuple[str, int] | None:
    kind, _, rest = key.partition("/")
    thing, _, number = rest.partition("/")
    return (thing, int(number)) if kind == wanted else None


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
    elif isinstance(entry, AccessStep):
        if entry.number == 1:
            yield from _claims_of_opening(entry)
        key = access_key(entry.access, entry.number)
        yield Claim(key, entry.time, entry.actor, entry.detail, entry.expires_at)
    elif isinstance(entry, DecisionRecord) and entry.approval and entry.token_id:  # nothing is used up without a token
        yield from use_claims(entry.approval, entry.decision_id, entry.time, entry.caller)


def _claims_of_opening(entry: AccessStep) -> Iterator[Claim]:
    """Yield what opening a window takes: the id of the call, so that two are one, and the use of an approval."""
    opening = opening_from_text(entry.detail)
    if opening.request:
        text = json.dumps([opening.caller, opening.request])
        key = f"{_ACCESS_REQUEST}/{hashlib.sha256(text.encode()).hexdigest()}"
        yield Claim(key, entry.time, entry.actor, "", entry.expires_at)
    if opening.approval:
        yield from use_claims(opening.approval, UUID(opening.decision).bytes, entry.time, entry.actor)


def use_claims(approval: str, decision_id: bytes, time: int, caller: str) -> Iterator[Claim]:
    """Yield what a decision takes of an approval: its next step, or nothing where a window of access took that before.

    Args:
        approval: What its record holds of the approval.
        decision_id: Its id.
        time: When it was made.
        caller: For whom.
    """
    approved = json.loads(approval)
    if approved["number"]:
        used = Step(StepKind.USE, caller, decision=str(UUID(bytes=decision_id)))
        key = approval_key(approved["id"], approved["number"])
        yield Claim(key, time, caller, step_text(used), approved["until"])
