"""What would have to change for a recorded refusal to be a grant, as far as the record and its policy tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import Reason
from issuer.core.explain import explain_decision
from issuer.core.replay import NotReplayable, recorded

if TYPE_CHECKING:
    from issuer.core.policy import Policy
    from issuer.core.reports import Denials


def changes_for(denials: Denials, policy: Policy | None) -> tuple[str, ...]:
    """Return changes, each enough to be worth a try, for the last of some refusals; or why none can be told.

    Args:
        denials: The refusals.
        policy: The one to change; ``None`` when it is not kept.
    """
    if policy is None:
        return ("the policy that decided is not kept",)
    if denials.erased:
        return ("the intent was erased",)
    if denials.reason == Reason.REVOKED:
        return (f"the revocation {denials.newest.rules} would have to be lifted",)
    try:
        inputs = recorded(denials.newest)
    except NotReplayable as why:
        return (str(why),)
    explained = explain_decision(policy, inputs.caller, inputs.request, inputs.facts, inputs.now, origin=inputs.origin)
    return explained.changes
