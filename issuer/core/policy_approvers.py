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
    from collections.abc import Iterable, Iterator

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import Approval, AudienceRule, GrantRule, Policy, TierRules
    from issuer.core.policy_faults import FaultList
    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class _Approvers:
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...] = (ANY_AUDIENCE,)


def check_approvers(
    faults: FaultList, audiences: Iterable[AudienceRule], tiers: Iterable[TierRules], grants: Iterable[GrantRule]
) -> None:
    """Report each grant whose workloads an approver's pattern matches too."""
    approvers = _patterns(audiences, tiers)
    if not approvers:
        return
    index = OverlapIndex([_Approvers(tuple(approvers))])
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


def approvers_among(policy: Policy, identities: Iterable[SpiffeId]) -> Iterator[SpiffeId]:
    """Yield those of some identities that a policy lets approve something."""
    approvers = _patterns(policy.audiences.values(), policy.risk_tiers.values())
    return (each for each in identities if any(pattern.matches(each) for pattern in approvers))


def _patterns(audiences: Iterable[AudienceRule], tiers: Iterable[TierRules]) -> dict[WorkloadPattern, None]:
    approvals: list[Approval | None] = [tier.approval for tier in tiers]
    approvals += [scope.approval for audience in audiences for scope in audience.scopes.values()]
    return {pattern: None for approval in approvals if approval is not None for pattern in approval.approvers}
