"""Which facts a decision could read: looked up, or asked for outside, before it is made."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from issuer.core.candidates import environments_of, find_candidates
from issuer.core.evaluation import subject_of
from issuer.core.facts import FactKey, SubjectKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.caller import Caller
    from issuer.core.candidates import Candidates
    from issuer.core.condition import Condition
    from issuer.core.facts import FactType
    from issuer.core.policy import Policy
    from issuer.core.token_request import TokenRequest

NO_FACTS: frozenset[FactKey] = frozenset()


def facts_needed(policy: Policy, caller: Caller, request: TokenRequest) -> frozenset[FactKey]:
    """Return every fact that a rule about this caller and this audience mentions."""
    if not policy.fact_types:
        return NO_FACTS
    candidates = find_candidates(policy, caller.spiffe_id, request.audience)
    if not candidates.grants:
        return NO_FACTS  # no grant, no token: nobody outside is asked on behalf of a caller that policy does not know
    types = {name for condition in _conditions(policy, candidates, request) for name in condition.fact_types}
    return frozenset(_keys(policy, caller, request, candidates, [policy.fact_types[name] for name in types]))


def _conditions(policy: Policy, candidates: Candidates, request: TokenRequest) -> Iterable[Condition]:
    scopes = policy.audiences[request.audience].scopes
    tiers = {scopes[scope].risk for scope in request.scopes if scope in scopes}
    return chain(
        *(rule.conditions for rule in candidates.grants),
        *(rule.conditions for rule in candidates.prohibitions),
        *((*rule.conditions, *rule.requires) for rule in candidates.limits),
        *(policy.risk_tiers[tier].requires for tier in tiers),
    )


def _keys(
    policy: Policy, caller: Caller, request: TokenRequest, candidates: Candidates, types: Iterable[FactType]
) -> Iterator[FactKey]:
    environments = environments_of(policy, caller.spiffe_id)
    applications = {grant.application for grant in candidates.grants}
    if request.application is not None:
        applications &= {request.application}
    for fact_type in types:
        for application in applications if fact_type.subject is SubjectKind.APPLICATION else (None,):
            subject = subject_of(fact_type, caller, request, environments, application)
            if subject is not None:
                yield FactKey(fact_type.name, subject)
