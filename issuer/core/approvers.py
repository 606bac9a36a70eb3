"""Who may approve what, and who counts as one person.

An SVID proves an identity, not a person. What is held against that here is only what can be seen in names: the same
path in two trust domains is one person (a federated twin), and whoever asks, or owns the grant, does not approve. That
two different paths are two people is for whoever registers them to see to; docs/THREAT_MODEL.md says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.patterns import parse_pattern
from issuer.core.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issuer.core.approval_request import Need, Question


def person_of(spiffe_id: SpiffeId) -> str:
    """Return what stands for the person behind an approver's SPIFFE ID: its path, whichever trust domain it is in."""
    return spiffe_id.path


def owns(owner: str, spiffe_id: SpiffeId) -> bool:
    """Return whether the ``owner`` of a grant is this identity.

    An owner is free text. It is one of a person's names if it is their SPIFFE ID, its path, or its last segment, in
    whichever case it is written. The name of a team is nobody's.
    """
    names = (str(spiffe_id), spiffe_id.path, spiffe_id.segments[-1])
    if owner.startswith("spiffe://"):
        return "/" + owner.removeprefix("spiffe://").partition("/")[2] == person_of(spiffe_id)
    return owner.casefold() in (name.casefold() for name in names)


def may_approve(need: Need, spiffe_id: SpiffeId) -> bool:
    """Return whether policy names this identity among those who approve the scope."""
    return any(parse_pattern(pattern).matches(spiffe_id) for pattern in need.approvers)


def scopes_of(needs: Iterable[Need], spiffe_id: SpiffeId) -> tuple[str, ...]:
    """Return the scopes that this identity may approve, as far as policy names it."""
    return tuple(need.scope for need in needs if may_approve(need, spiffe_id))


def why_not(question: Question, spiffe_id: SpiffeId) -> str | None:
    """Return what keeps an identity from approving this, whatever policy says of it; ``None`` for nothing."""
    if person_of(spiffe_id) == person_of(SpiffeId.parse(question.asked.caller)):
        return "nobody approves what they asked for themselves"
    if any(owns(owner, spiffe_id) for owner in question.owners):
        return "the owner of a grant does not approve what it gives"
    return None
