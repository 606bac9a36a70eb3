"""Rule 14: what a revocation stops is denied, whatever would have been granted, and the record of it replays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.policies import LEDGER, NOW, SETTLER, caller, grant, grants, policy, request

from issuer.core.access import list_access
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.denial_advice import changes_for
from issuer.core.denial_text import explain
from issuer.core.errors import Reason
from issuer.core.instants import microseconds
from issuer.core.patterns import parse_pattern
from issuer.core.record import DecisionRecord, record_decision
from issuer.core.replay import Change, NotReplayable, change, differing_fields, recorded, told_before, told_by
from issuer.core.reports import Denials
from issuer.core.revocation import Lift, Revocation, Selector
from issuer.core.revocations import Revocations

ID = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"
POLICY = policy(grants(grant("g", application="payments"), grant("w", scopes="[write]")))
BEFORE = microseconds(NOW) - 1


def stop(selector: Selector, number: int = 1) -> Revocation:
    return Revocation(f"r{number}", selector, BEFORE, "spiffe://prod.example/operator", "a leak", stops_issuance=True)


HITTING = {
    "workload": Selector(workload=parse_pattern("spiffe://prod.example/ns/payments/**")),
    "application": Selector(application="payments"),
    "audience": Selector(audience=LEDGER),
    "rule": Selector(rule="g"),
    "policy": Selector(policy=POLICY.digest),
    "key": Selector(key="k1"),
    "everything": Selector(everything=True),
    "workload and audience": Selector(workload=parse_pattern(SETTLER), audience=LEDGER),
    "a range that is open": Selector(audience=LEDGER, issued_from=BEFORE),
}
MISSING = {
    "another workload": Selector(workload=parse_pattern("spiffe://prod.example/ns/reports/**")),
    "another application": Selector(application="reports"),
    "another audience": Selector(audience="https://mail.example"),
    "another rule": Selector(rule="w"),
    "another policy": Selector(policy="sha256:0"),
    "another key": Selector(key="k2"),
    "workload at another audience": Selector(workload=parse_pattern(SETTLER), audience="https://mail.example"),
    "a range that is over": Selector(audience=LEDGER, issued_until=BEFORE),
}


def decided(*revocations: Revocation, scopes: tuple[str, ...] = ("read",)) -> Grant | Denial:
    known = Revocations(revocations, key_id="k1")
    return decide(POLICY, caller(), request(*scopes), {}, NOW, revocations=known)


@pytest.mark.parametrize("name", HITTING)
def test_what_a_revocation_hits_is_not_issued(name: str) -> None:
    answer = decided(stop(HITTING[name]))
    assert isinstance(answer, Denial)
    assert (answer.reason, answer.rule_ids, answer.scopes) == (Reason.REVOKED, ("r1",), ())
    assert "revoked" in explain(answer)


@pytest.mark.parametrize("name", MISSING)
def test_what_it_does_not_hit_is_issued_as_before(name: str) -> None:
    assert decided(stop(MISSING[name])) == decided()


def test_a_refusal_does_not_tell_of_revocations() -> None:
    assert decided(stop(Selector(everything=True)), scopes=("refund",)) == decided(scopes=("refund",))


def test_after_the_lift_it_is_issued_again() -> None:
    assert decided(replace(stop(Selector(everything=True)), lifted=Lift(BEFORE, "x"))) == decided()


def test_a_scope_of_a_revoked_rule_is_not_given_by_another_rule() -> None:
    both = policy(grants(grant("long"), grant("short", max_ttl="1m")))
    known = Revocations([stop(Selector(rule="long"))])
    answer = decide(both, caller(), request(), {}, NOW, revocations=known)
    assert isinstance(answer, Denial)


def test_the_oldest_of_several_is_named() -> None:
    answer = decided(stop(Selector(everything=True), 2), stop(Selector(audience=LEDGER), 1))
    assert isinstance(answer, Denial)
    assert answer.rule_ids == ("r1",)


def test_list_access_leaves_out_what_is_stopped() -> None:
    assert [each.audience for each in list_access(POLICY, caller(), {}, NOW)] == [LEDGER]
    known = Revocations([stop(Selector(rule="g"))])
    (access,) = list_access(POLICY, caller(), {}, NOW, revocations=known)
    assert [scope.name for scope in access.scopes] == ["write"]
    assert list_access(POLICY, caller(), {}, NOW, revocations=Revocations([stop(Selector(everything=True))])) == ()


def refused(*revocations: Revocation) -> DecisionRecord:
    answer = decided(*revocations)
    return record_decision(
        answer, decision_id=ID, caller=caller(), peer="", request=request(), facts={}, now=NOW, validate_only=False
    )


def test_the_record_replays_though_the_stop_was_lifted_since() -> None:
    for selector in HITTING.values():
        record = refused(stop(selector))
        lifted = replace(stop(selector), lifted=Lift(BEFORE, "x"))
        inputs = recorded(record, {"r1": lifted}.get)
        assert differing_fields(record, inputs, POLICY) == ()


def test_audited_rules_replay_beside_a_revocation_that_hits_them_alone() -> None:
    audited = policy(grants(grant("g"), grant("a", scopes="[write]", mode="audit")))
    for selector in (Selector(rule="a"), Selector(rule="g"), Selector(everything=True)):
        known = Revocations([stop(selector)])
        for scope in ("read", "write"):
            answer = decide(audited, caller(), request(scope), {}, NOW, revocations=known)
            record = record_decision(
                answer, decision_id=ID, caller=caller(), peer="", request=request(scope), facts={}, now=NOW
            )
            inputs = recorded(record, {"r1": stop(selector)}.get)
            assert differing_fields(record, inputs, audited) == ()


def test_another_policy_does_not_undo_a_revocation_but_of_its_own_digest() -> None:
    other = policy(grants(grant("h", application="payments")))
    for selector, expected in (
        (Selector(audience=LEDGER), Change.SAME),
        (Selector(policy=POLICY.digest), Change.NEWLY_GRANTED),
    ):
        record = refused(stop(selector))
        inputs = recorded(record, {"r1": stop(selector)}.get)
        assert change(told_before(record), told_by(other, inputs)) is expected


def test_without_the_revocation_it_is_not_replayed() -> None:
    with pytest.raises(NotReplayable, match="revocation"):
        recorded(refused(stop(Selector(everything=True))))


def test_the_advice_is_to_lift_it() -> None:
    record = refused(stop(Selector(everything=True)))
    asked = Denials(record.caller, record.audience, record.reason, 1, record.time, record.time, record, 1, erased=False)
    assert changes_for(asked, POLICY) == ("the revocation r1 would have to be lifted",)
