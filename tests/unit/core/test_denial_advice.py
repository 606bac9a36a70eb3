"""What would have to change for a recorded refusal to be a grant."""

from __future__ import annotations

from support.policies import NOW, caller, grant, grants, policy, request

from issuer.core.decide import decide
from issuer.core.denial_advice import changes_for
from issuer.core.record import record_decision
from issuer.core.reports import Denials

POLICY = policy(grants(grant()))


def refused(*, erased: bool = False, **changes: str) -> Denials:
    record = record_decision(
        decide(POLICY, caller(), request("write"), {}, NOW),
        decision_id="0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55",
        caller=caller(),
        peer="",
        request=request("write"),
        facts={},
        now=NOW,
    )._replace(**changes)  # type: ignore[arg-type]
    return Denials(record.caller, record.audience, record.reason, 1, 0, 0, record, 1, erased)


def test_it_is_what_the_policy_itself_would_need() -> None:
    assert any("write" in change for change in changes_for(refused(), POLICY))


def test_why_none_can_be_told_is_told() -> None:
    assert changes_for(refused(), None) == ("the policy that decided is not kept",)
    assert changes_for(refused(erased=True), POLICY) == ("the intent was erased",)
    assert changes_for(refused(policy=""), POLICY) == ("nothing was decided",)
