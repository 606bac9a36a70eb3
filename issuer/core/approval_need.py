"""Whether an approval is all that a request lacks, and then whose. For that it is decided as if it had one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.access_length import latest_end
from issuer.core.approval_request import AskedFor, Need, asked_for
from issuer.core.approvals import NOTHING_APPROVED, Approvals, approval_of
from issuer.core.decide import decide, find_rules, grant_or_denial, select, unless_revoked, with_reason
from issuer.core.decision import Denial, Grant
from issuer.core.evaluation import Evaluator
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.revocations import NOTHING_REVOKED
from issuer.core.token_request import GrantType
from issuer.core.weighing import Inputs, Obstacle, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.errors import Reason
    from issuer.core.facts import Facts
    from issuer.core.origin import Origin
    from issuer.core.policy import Policy
    from issuer.core.revocations import Revocations
    from issuer.core.token_request import TokenRequest
    from issuer.core.weighing import Allowed


@dataclass(frozen=True, slots=True)
class Needed:
    """What somebody has to approve before the request is granted.

    Attributes:
        asked: Exactly what is asked for.
        needs: The scopes that lack an approval, at least one.
        owners: Who owns the grants that would give them.
        lifetime: How long the token would live, in whole seconds.
    """

    asked: AskedFor
    needs: tuple[Need, ...]
    owners: tuple[str, ...]
    lifetime: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """What came of looking: the decision, and what an approval would add to it.

    Attributes:
        decision: What is decided now.
        needed: What an approval would add; ``None`` for nothing.
        reason: Why nothing, where the request would be refused even if it were approved.
    """

    decision: Grant | Denial
    needed: Needed | None
    reason: Reason | None = None


def find_needed(
    policy: Policy,
    caller: Caller,
    request: TokenRequest,
    facts: Facts,
    now: datetime,
    *,
    revocations: Revocations = NOTHING_REVOKED,
    approvals: Approvals = NOTHING_APPROVED,
    origin: Origin | None = None,
) -> Lacking:
    """Return what is decided now, and what somebody has to approve for more.

    The arguments are those of :func:`~issuer.core.decide.decide`.
    """
    decision = decide(policy, caller, request, facts, now, revocations=revocations, approvals=approvals, origin=origin)
    evaluator = Evaluator(policy, caller, request, facts, now)
    inputs = Inputs(policy, caller, request, now, evaluator, revocations, origin=origin)
    rules, _ = find_rules(inputs)
    allowed = select(inputs, rules, Obstacle.APPROVAL)
    if isinstance(allowed, Refused):
        return Lacking(decision, None, with_reason(inputs, rules, allowed, Obstacle.APPROVAL).reason)
    answer = unless_revoked(inputs, grant_or_denial(inputs, allowed))
    if isinstance(answer, Denial):
        return Lacking(decision, None, answer.reason)
    given = decision.scopes if isinstance(decision, Grant) else ()
    needs = tuple(
        need
        for scope in answer.scopes
        if scope not in given and (need := need_of(policy, request.audience, scope)) is not None
    )
    if not needs:
        return Lacking(decision, None)
    asked = asked_for(caller.spiffe_id, request, allowed.application, policy.digest)
    return Lacking(decision, Needed(asked, needs, _owners(allowed, needs), _lifetime(inputs, answer)))


def _lifetime(inputs: Inputs, answer: Grant) -> int:
    """Return how long a token would live, or access just in time would last; in whole seconds."""
    if inputs.request.grant_type is not GrantType.JIT:
        return answer.lifetime // MICROSECOND // 1_000_000
    end = latest_end(inputs.policy, inputs.caller.spiffe_id, answer, inputs.request, inputs.now)
    return (end - microseconds(inputs.now)) // 1_000_000


def need_of(policy: Policy, audience: str, scope: str) -> Need | None:
    """Return whose approval a scope needs that the audience declares; ``None`` for nobody's."""
    if (approval := approval_of(policy, audience, scope)) is None:
        return None
    return Need(
        scope=scope,
        risk=policy.audiences[audience].scopes[scope].risk.value,
        approvers=tuple(pattern.text for pattern in approval.approvers),
        quorum=approval.quorum,
        valid_for=approval.valid_for // MICROSECOND,
        uses=approval.uses,
        human=approval.human,
    )


def _owners(allowed: Allowed, needs: tuple[Need, ...]) -> tuple[str, ...]:
    giving = (grant for need in needs for grant in allowed.by_scope[need.scope])
    return tuple(sorted({grant.owner for grant in giving if grant.owner is not None}))
