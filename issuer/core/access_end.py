"""What is written for the end of a window of access: the end, and in the same commit the death of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.access_text import step_text
from issuer.core.access_window import BY_TIME, COLLECTION
from issuer.core.ledger_entries import ACCESS, ACCESS_ENDED, StepTaken
from issuer.core.origin import OriginKind
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocation_text import entry_of

if TYPE_CHECKING:
    from issuer.core.access_window import AccessWindow, Step
    from issuer.core.ledger_entries import Entry

_MICROSECONDS = 1_000_000


def basis_of(window_id: str) -> str:
    """Return the name by which a revocation hits what rests on a window."""
    return f"{OriginKind.ACCESS.value}/{window_id}"


def entries_of_end(ended: AccessWindow, step: Step, revocation_id: str) -> list[Entry]:
    """Return the entries of an end, for one commit.

    Nothing is revoked by an end that time made: no token of the window outlives it.

    Args:
        ended: The window after its end.
        step: The end.
        revocation_id: The id of the revocation.
    """
    opening, said = ended.opening, step_text(step)
    end = StepTaken(ACCESS_ENDED, ACCESS, ended.id, ended.number, ended.ended_at, step.by, said, opening.over_at)
    if ended.ended in BY_TIME:
        return [end]
    until = -(-opening.until // _MICROSECONDS)  # whole seconds, rounded up
    revocation = Revocation(
        id=revocation_id,
        selector=Selector(basis=basis_of(ended.id)),
        time=ended.ended_at,
        actor=step.by,
        why=f"{COLLECTION}/{ended.id}: {ended.ended}",
        stops_issuance=True,
        until=until * _MICROSECONDS,
        expires_at=until,
    )
    return [entry_of(revocation), end]  # a revocation first: the ledger looks there for what moves its epoch
