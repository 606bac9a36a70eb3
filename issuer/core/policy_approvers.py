"""Holds a policy to this: nobody whom it lets call for tokens may approve anything.

An SVID proves a process, not a person. A workload that an approver's pattern matches could answer its own questions, or
those of its neighbours; so could an agent that runs under its user's SVID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.index import ANY_AUDIENCE
from issuer.core.pattern_overlap import OverlapIndex
from issuer.core.policy_faults import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import Approval, GrantRule
    from issuer.core.policy_faults import FaultList, Position
    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class _Approvers:
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...] = (ANY_AUDIENCE,)


def check_approvers(
    faults: FaultList,
    approvals: Sequence[tuple[Approval, Position]],
    grants: Iterable[GrantRule],
    feeders: Iterable[SpiffeId],
    gateways: Iterable[SpiffeId] = (),
) -> None:
    """Report each grant whose workloads an approver's pattern matches too, and who may approve and should only do else.

    Args:
        faults: Where they are reported.
        approvals: Each with its place.
        grants: Who may call.
        feeders: Who tells facts: whoever may set what decides does not also approve.
        gateways: Who brings the evidence of others: whoever carries approvals makes none.
    """
    if not approvals:
        return
    for approval, position in approvals:
        for others, do in ((feeders, "tells facts"), (gateways, "brings the evidence of others")):
            for other in others:
                if any(pattern.matches(other) for pattern in approval.approvers):
                    faults.add(position, f"approval: {other} {do} and may approve as well: nobody does both")
    patterns = dict.fromkeys(pattern for approval, _ in approvals for pattern in approval.approvers)
    index = OverlapIndex([_Approvers(tuple(patterns))])
    met: dict[str, str | None] = {}  # by the pattern's text: 100,000 grants repeat few patterns
    for grant in grants:
        for pattern in grant.workloads:
            if pattern.text not in met:
                met[pattern.text] = next((both for _, both in index.overlapping(pattern, ANY_AUDIENCE)), None)
            if (both := met[pattern.text]) is not None:
                faults.add(
                    grant.source,
                    f"grant {quoted(grant.id)}: {both} may call and may approve as well: nobody does both; "
                    "narrow its workloads or the 'approvers'",
                )
