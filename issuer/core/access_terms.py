"""What a window of access means to a decision: what its tokens rest on, and whether it holds.

A window is decided again like a request for all that was granted: by the policy, the facts and the revocations of now.
What was approved once stays approved for it, as long as policy asks for no other approvers and no more of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.access_length import rules_of
from issuer.core.access_window import Status, Step, StepKind
from issuer.core.approval_need import need_of
from issuer.core.approval_text import approval_from_text
from issuer.core.approvals import NOTHING_APPROVED, Approvals, RecordedApproval, approval_of
from issuer.core.caller import Caller
from issuer.core.decide import decide
from issuer.core.decision import Denial
from issuer.core.errors import Reason
from issuer.core.instants import MICROSECOND, microseconds, moment
from issuer.core.origin import Origin, OriginKind
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.access_window import AccessWindow, Opening
    from issuer.core.approval_request import Need
    from issuer.core.decision import Grant
    from issuer.core.facts import Facts
    from issuer.core.policy import Policy
    from issuer.core.revocations import Revocations

_TOO_SHORT: Final = frozenset({Reason.SVID_EXPIRES_SOON, Reason.ORIGIN_EXPIRES_SOON})
"""No token fits into what is left; that does not take back the ones there are."""


class Verdict(NamedTuple):
    """Whether a window holds.

    Attributes:
        end: What ends it; ``None`` as long as it holds.
        look_again: When time alone could change that, microseconds since 1970 UTC.
    """

    end: Step | None
    look_again: int


def needs_of(policy: Policy, granted: Grant) -> tuple[Need, ...]:
    """Return what had to be approved of a window that was granted; nothing where it rests on no approval."""
    if granted.approval is None:
        return ()
    needs = (need_of(policy, granted.audience, scope) for scope in granted.scopes)
    return tuple(need for need in needs if need is not None)


def request_of(opening: Opening) -> TokenRequest:
    """Return the request that a window was opened by, for all that was granted."""
    return TokenRequest(
        audience=opening.audience,
        scopes=opening.scopes,
        ttl=None if opening.ttl is None else opening.ttl * MICROSECOND,
        application=opening.application or None,
        bind_certificate=opening.bind_certificate,
        intent=Intent(**json.loads(opening.intent)) if opening.intent else None,
        grant_type=GrantType.JIT,
    )


def caller_of(window: AccessWindow) -> Caller:
    """Return the caller of a window, which is not there, with the end of the newest SVID that it was seen with."""
    return Caller(SpiffeId.parse(window.opening.caller), bytes(32), 0, moment(window.svid_until))


def origin_of(window: AccessWindow) -> Origin:
    """Return what tokens of a window rest on."""
    opening = window.opening
    return Origin(
        kind=OriginKind.ACCESS,
        id=window.id,
        number=0,
        subject=opening.caller,
        actors=(),
        ancestors=(),
        scopes=opening.scopes,
        until=window.closes_at,
        bind=opening.bind_certificate,
    )


def approvals_of(window: AccessWindow, policy: Policy) -> Approvals:
    """Return what of the approval that a window rests on still counts: opening it used it up, its tokens do not."""
    opening = window.opening
    if not opening.approval:
        return NOTHING_APPROVED
    given = approval_from_text(opening.approval)
    scopes = tuple(need.scope for need in opening.needs if _is_still_enough(need, policy, opening.audience))
    return RecordedApproval(replace(given, number=0, scopes=scopes, ttl=None, until=opening.over_at))


def judge(
    window: AccessWindow,
    policy: Policy,
    facts: Facts,
    now: datetime,
    *,
    revocations: Revocations,
    approval_taken_back: bool = False,
) -> Verdict:
    """Return whether an open window holds at ``now`` (timezone-aware).

    Args:
        window: Which. That it has not ended is taken for granted.
        policy: The one in force.
        facts: What is known of what rules about it mention.
        now: The time.
        revocations: Those that hold.
        approval_taken_back: The approval that it rests on was.
    """
    time = microseconds(now)
    status = window.status_at(time)
    if status is not Status.OPEN:
        return Verdict(Step(StepKind.END, "", status), time)
    if approval_taken_back:
        return Verdict(Step(StepKind.END, "", Status.REVOKED, rules=(f"approval/{approval_id(window)}",)), time)
    opening, caller = window.opening, caller_of(window)
    answer = decide(
        policy,
        caller,
        request_of(opening),
        facts,
        now,
        revocations=revocations,
        approvals=approvals_of(window, policy),
        origin=origin_of(window),
    )
    if isinstance(answer, Denial) and answer.reason not in _TOO_SHORT:
        status = Status.REVOKED if answer.reason is Reason.REVOKED else Status.REFUSED
        return Verdict(Step(StepKind.END, "", status, answer.reason.value, answer.rule_ids), time)
    rules = rules_of(policy, caller.spiffe_id, opening.audience, answer.rule_ids)
    ends = [opening.created + rule.longest_window // MICROSECOND for rule in rules]
    if time >= min(ends, default=window.closes_at):
        # The policy lets it last less than when it began.
        return Verdict(Step(StepKind.END, "", Status.REFUSED, Reason.GRANT_EXPIRED.value, answer.rule_ids), time)
    ends += [microseconds(rule.ends - policy.min_ttl) for rule in rules if rule.ends is not None]
    ends += [microseconds(fact.expires_at) for fact in answer.facts]
    return Verdict(None, min([window.closes_at, *(end for end in ends if end > time)]))


def approval_id(window: AccessWindow) -> str:
    """Return the id of the request for approval that a window rests on; empty for none."""
    text = window.opening.approval
    return approval_from_text(text).id if text else ""


def _is_still_enough(need: Need, policy: Policy, audience: str) -> bool:
    declared = policy.audiences.get(audience)
    if declared is None or need.scope not in declared.scopes:
        return False
    asked = approval_of(policy, audience, need.scope)
    return asked is None or (
        need.quorum >= asked.quorum
        and need.human >= asked.human
        and {pattern.text for pattern in asked.approvers}.issuperset(need.approvers)
    )
