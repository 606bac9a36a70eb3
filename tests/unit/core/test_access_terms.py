"""What a window of access means to decisions: how long it lasts, what its tokens rest on, and what ends it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.policies import (
    AUDIENCES,
    LEDGER,
    NOW,
    SETTLER,
    caller,
    grant,
    grants,
    policy,
    prohibition,
    prohibitions,
    request,
)
from support.windows import opening

from issuer.core.access_end import basis_of
from issuer.core.access_length import latest_end
from issuer.core.access_terms import (
    approval_id,
    approvals_of,
    caller_of,
    judge,
    needs_of,
    origin_of,
    request_of,
)
from issuer.core.access_window import AccessWindow, Status, Step, StepKind, apply, begin
from issuer.core.approval_need import find_needed
from issuer.core.approval_request import asked_for
from issuer.core.approval_text import approval_text
from issuer.core.approvals import NOTHING_APPROVED, Approvals, Approved
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.errors import Reason
from issuer.core.facts import Fact
from issuer.core.instants import microseconds
from issuer.core.record import record_decision
from issuer.core.replay import differing_fields, recorded
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocations import NOTHING_REVOKED, Revocations
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, TokenRequest

if TYPE_CHECKING:
    from issuer.core.policy import Policy

JIT = {"grant_types": "[jit]", "window": "2h"}
FACTS = "facts: [{name: change, subject: ticket, max_age: 30m, fields: {approved: bool}}]"
WHEN = "facts.change.approved"
POLICY = policy(grants(grant(scopes="[read, refund]", **JIT)))
TICKETED = policy(FACTS, grants(grant(scopes="[read, refund]", when=WHEN, **JIT)))
BEGAN = microseconds(NOW)
MINUTE = timedelta(minutes=1)
PEOPLE = "approval: {approvers: ['spiffe://people.example/*'], valid_for: 15m}"


def approvable(approval: str = PEOPLE) -> Policy:
    audiences = AUDIENCES.replace("risk: critical}", f"risk: critical, {approval}}}")
    return policy(grants(grant(scopes="[read, refund]", **JIT)), audiences=audiences)


def window(**changes: Any) -> AccessWindow:
    usual: dict[str, Any] = {
        "caller": SETTLER,
        "audience": LEDGER,
        "created": BEGAN,
        "until": BEGAN + 3_600_000_000,
        "svid_until": BEGAN + 2 * 3_600_000_000,
        "ttl": None,
    }
    return begin(opening(**(usual | changes)))


def ticket(*, approved: bool = True) -> Fact:
    values = {"approved": approved}
    return Fact("change", "CHG-7", values, "file:x", NOW, NOW + 20 * MINUTE, caller=SETTLER, audience=LEDGER)


def verdict(
    of: AccessWindow | None = None,
    rules: Policy = POLICY,
    *facts: Fact,
    after: timedelta = MINUTE,
    revocations: Revocations = NOTHING_REVOKED,
    **more: bool,
) -> tuple[Status | None, str]:
    known = {fact.key: fact for fact in facts}
    end = judge(of or window(), rules, known, NOW + after, revocations=revocations, **more).end
    return (None, "") if end is None else (end.end, end.why)


class TestHowLong:
    def test_as_long_as_the_grant_lets(self) -> None:
        assert ends_after(POLICY) == timedelta(hours=2)
        assert ends_after(policy(grants(grant(grant_types="[jit]")))) == timedelta(hours=1)

    def test_no_longer_than_asked_nor_than_the_grant_lives(self) -> None:
        assert ends_after(POLICY, ttl=5 * MINUTE) == 5 * MINUTE
        assert ends_after(POLICY, ttl=timedelta(hours=9)) == timedelta(hours=2)
        ending = policy(grants(grant(expires="2026-06-01T12:30:00Z", **JIT)))
        assert ends_after(ending) == 30 * MINUTE

    def test_the_shortest_grant_that_it_rests_on_counts(self) -> None:
        two = policy(grants(grant(**JIT), grant("h", "[report]", grant_types="[jit]", window="10m")))
        assert ends_after(two, "read", "report") == 10 * MINUTE

    def test_an_approver_shortens_it(self) -> None:
        rules = approvable()
        asked = jit("refund")
        approved = Approved("a", 3, digest_of(asked, rules), "", ("refund",), 90, BEGAN + 600_000_000, 1)
        granted = decide(rules, caller(), asked, {}, NOW, approvals=Approvals([approved]))
        assert isinstance(granted, Grant)
        assert latest_end(rules, caller().spiffe_id, granted, asked, NOW) == BEGAN + 90_000_000
        [need] = needs_of(rules, granted)
        assert (need.scope, need.approvers, need.quorum) == ("refund", ("spiffe://people.example/*",), 1)

    def test_approvers_are_told_how_long_the_window_would_be(self) -> None:
        for ttl, seconds in ((5 * MINUTE, 300), (None, 7_200)):
            needed = find_needed(approvable(), caller(), jit("refund", ttl=ttl), {}, NOW).needed
            assert needed is not None
            assert needed.lifetime == seconds

    def test_what_needs_no_approval_has_no_needs(self) -> None:
        granted = decide(POLICY, caller(), jit(), {}, NOW)
        assert isinstance(granted, Grant)
        assert needs_of(POLICY, granted) == ()

    def test_a_grant_of_another_type_gives_no_window_and_one_of_this_type_no_token_without(self) -> None:
        plain = policy(grants(grant()))
        for rules, asked in ((plain, jit()), (POLICY, request())):
            denied = decide(rules, caller(), asked, {}, NOW)
            assert isinstance(denied, Denial)
            assert denied.reason is Reason.GRANT_TYPE_NOT_ALLOWED


def jit(*scopes: str, ttl: timedelta | None = None) -> TokenRequest:
    return TokenRequest(LEDGER, scopes or ("read",), ttl, grant_type=GrantType.JIT)


def digest_of(asked: TokenRequest, rules: Policy) -> str:
    return asked_for(SpiffeId.parse(SETTLER), asked, None, rules.digest).digest


def ends_after(rules: Policy, *scopes: str, ttl: timedelta | None = None) -> timedelta:
    asked = jit(*scopes, ttl=ttl)
    granted = decide(rules, caller(), asked, {}, NOW)
    assert isinstance(granted, Grant), granted
    end = latest_end(rules, caller().spiffe_id, granted, asked, NOW)
    return timedelta(microseconds=end - BEGAN)


class TestTokens:
    def test_a_token_has_no_other_scope_and_no_longer_life_than_its_window(self) -> None:
        of = window(until=BEGAN + 90_000_000)
        late = NOW + timedelta(seconds=60)
        granted = decide(POLICY, caller(), request_of(of.opening), {}, late, origin=origin_of(of))
        assert isinstance(granted, Grant)
        assert granted.lifetime == timedelta(seconds=30)
        wider = TokenRequest(LEDGER, ("read", "report"), grant_type=GrantType.JIT)
        both = policy(grants(grant(scopes="[read, report]", **JIT)))
        denied = decide(both, caller(), wider, {}, late, origin=origin_of(of))
        assert isinstance(denied, Denial)
        assert (denied.reason, denied.scopes) == (Reason.SCOPE_NOT_ALLOWED, ("report",))

    def test_a_token_ends_with_the_newest_svid_of_the_caller(self) -> None:
        seen = apply(window(svid_until=BEGAN + 60_000_000), Step(StepKind.SEEN, SETTLER, svid_until=BEGAN + 1), BEGAN)
        assert isinstance(seen, AccessWindow)
        assert origin_of(seen).until == BEGAN + 60_000_000
        assert caller_of(seen).not_after == NOW + MINUTE

    def test_what_a_window_was_asked_for_reads_back(self) -> None:
        of = opening(ttl=60_000_000, intent='{"ticket":"CHG-7"}', application="payments", bind_certificate=True)
        asked = request_of(of)
        assert (asked.ttl, asked.application, asked.bind_certificate) == (MINUTE, "payments", True)
        assert asked.intent is not None
        assert (asked.intent.ticket, asked.grant_type) == ("CHG-7", GrantType.JIT)
        assert request_of(opening(ttl=None, intent="")).intent is None


class TestHolding:
    def test_it_holds_as_long_as_it_would_be_granted(self) -> None:
        assert verdict() == (None, "")

    @pytest.mark.parametrize(("at", "end"), [(59, None), (60, Status.EXPIRED)])
    def test_time_ends_it_at_its_end_and_not_before(self, at: int, end: Status | None) -> None:
        assert verdict(after=at * MINUTE)[0] is end

    def test_an_svid_without_a_successor_ends_it(self) -> None:
        assert verdict(window(svid_until=BEGAN + 60_000_000))[0] is Status.SVID_EXPIRED

    def test_the_last_seconds_in_which_no_token_fits_do_not_end_it_before_its_time(self) -> None:
        last = timedelta(minutes=59, seconds=55)
        assert verdict(after=last) == (None, "")
        assert verdict(window(svid_until=BEGAN + 3_590_000_000), after=last - MINUTE / 6) == (None, "")

    def test_a_ticket_that_turns_false_ends_it(self) -> None:
        of = window(intent='{"ticket":"CHG-7"}')
        assert verdict(of, TICKETED, ticket()) == (None, "")
        assert verdict(of, TICKETED, ticket(approved=False)) == (Status.REFUSED, "CONDITION_NOT_MET")

    def test_a_ticket_that_ends_or_was_for_another_ends_it(self) -> None:
        of = window(intent='{"ticket":"CHG-7"}')
        assert verdict(of, TICKETED, ticket(), after=20 * MINUTE) == (Status.REFUSED, "FACT_MISSING")
        assert verdict(window(intent='{"ticket":"CHG-8"}'), TICKETED, ticket()) == (Status.REFUSED, "FACT_MISSING")

    def test_a_risk_that_rises_ends_it(self) -> None:
        risk = "facts: [{name: risk, subject: caller, max_age: 5m, fields: {score: int}}]"
        rules = policy(
            risk,
            grants(grant(scopes="[read, refund]", **JIT)),
            prohibitions(prohibition(when="has(facts.risk.score) && facts.risk.score > 80")),
        )

        def scored(score: int) -> Fact:
            return Fact("risk", SETTLER, {"score": score}, "file:x", NOW, NOW + 5 * MINUTE)

        assert verdict(None, rules, scored(10)) == (None, "")
        assert verdict(None, rules, scored(90)) == (Status.REFUSED, "AUDIENCE_NOT_ALLOWED")

    def test_a_policy_without_its_grant_or_with_a_shorter_window_ends_it(self) -> None:
        assert verdict(rules=policy(grants(grant(scopes="[read]", **JIT))))[0] is Status.REFUSED
        assert verdict(rules=policy()) == (Status.REFUSED, "AUDIENCE_NOT_ALLOWED")
        shorter = policy(grants(grant(scopes="[read, refund]", grant_types="[jit]", window="1m")))
        assert verdict(rules=shorter, after=MINUTE) == (Status.REFUSED, "GRANT_EXPIRED")
        assert verdict(rules=shorter, after=MINUTE - timedelta(seconds=1)) == (None, "")

    @pytest.mark.parametrize(
        "selector", [Selector(basis=basis_of(opening().id)), Selector(audience=LEDGER), Selector(rule="g")]
    )
    def test_a_revocation_ends_it_and_is_named(self, selector: Selector) -> None:
        stop = Revocation("r-7", selector, BEGAN, "", "x", stops_issuance=True)
        ended = judge(window(), POLICY, {}, NOW + MINUTE, revocations=Revocations([stop])).end
        assert ended is not None
        assert (ended.end, ended.rules) == (Status.REVOKED, ("r-7",))

    def test_it_is_looked_at_again_when_time_could_change_the_answer(self) -> None:
        of = window(intent='{"ticket":"CHG-7"}')
        again = judge(of, TICKETED, {ticket().key: ticket()}, NOW, revocations=NOTHING_REVOKED).look_again
        assert again == BEGAN + 20 * 60_000_000
        assert judge(window(), POLICY, {}, NOW, revocations=NOTHING_REVOKED).look_again == BEGAN + 3_600_000_000
        ending = policy(grants(grant(scopes="[read, refund]", expires="2026-06-01T12:30:00Z", **JIT)))
        look_again = judge(window(), ending, {}, NOW, revocations=NOTHING_REVOKED).look_again
        assert look_again == BEGAN + 30 * 60_000_000 - 10_000_000
        assert verdict(rules=ending, after=30 * MINUTE - timedelta(seconds=9)) == (Status.REFUSED, "GRANT_EXPIRED")


class TestApproved:
    GIVEN = Approved("a-1", 3, "sha256:0", "", ("refund",), 60, BEGAN + 900_000_000, 1)

    def window(self, rules: Policy) -> AccessWindow:
        granted = decide(rules, caller(), jit("read", "refund"), {}, NOW, approvals=self.approvals(rules))
        assert isinstance(granted, Grant)
        return window(approval=approval_text(granted.approval), needs=needs_of(rules, granted))

    def approvals(self, rules: Policy) -> Approvals:
        digest = digest_of(jit("read", "refund"), rules)
        return Approvals([Approved("a-1", 3, digest, "", ("refund",), 60, BEGAN + 900_000_000, 1)])

    def test_its_tokens_need_no_other_approval_and_use_up_none(self) -> None:
        rules = approvable()
        of = self.window(rules)
        assert approval_id(of) == "a-1"
        late = NOW + 40 * MINUTE  # past the time in which the approval could be used
        asked = TokenRequest(LEDGER, ("refund",), grant_type=GrantType.JIT)
        approvals, origin = approvals_of(of, rules), origin_of(of)
        granted = decide(rules, caller(), asked, {}, late, approvals=approvals, origin=origin)
        assert isinstance(granted, Grant)
        assert granted.approval is not None
        assert (granted.approval.id, granted.approval.number) == ("a-1", 0)
        record = record_decision(
            granted,
            decision_id="0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55",
            caller=caller(),
            peer="",
            request=asked,
            facts={},
            now=late,
        )
        assert differing_fields(record, recorded(record), rules) == ()

    def test_it_holds_under_a_policy_that_asks_for_no_more_approvers(self) -> None:
        of = self.window(approvable())
        for rules in (
            approvable(),
            POLICY,
            approvable("approval: {approvers: ['spiffe://people.example/*', 'spiffe://x.example/*'], valid_for: 1m}"),
        ):
            assert verdict(of, rules, after=30 * MINUTE) == (None, "")

    @pytest.mark.parametrize(
        "approval",
        [
            "approval: {approvers: ['spiffe://people.example/*'], valid_for: 15m, quorum: 2}",
            "approval: {approvers: ['spiffe://others.example/*'], valid_for: 15m}",
            "approval: {approvers: ['spiffe://people.example/*'], valid_for: 15m, human: true}",
        ],
    )
    def test_a_policy_that_asks_for_other_approvers_or_more_of_them_ends_it(self, approval: str) -> None:
        assert verdict(self.window(approvable()), approvable(approval)) == (Status.REFUSED, "APPROVAL_REQUIRED")

    def test_a_policy_that_knows_the_audience_or_the_scope_no_more_ends_it(self) -> None:
        of = self.window(approvable())
        gone = AUDIENCES.replace("https://ledger.example", "https://other.example")
        for audiences in (gone, AUDIENCES.replace("refund", "reimburse")):
            assert verdict(of, policy(audiences=audiences))[0] is Status.REFUSED

    def test_an_approval_that_is_taken_back_ends_it(self) -> None:
        of = self.window(approvable())
        assert verdict(of, approvable(), approval_taken_back=True)[0] is Status.REVOKED
        stop = Revocation("r", Selector(basis="approval/a-1"), BEGAN, "", "x", stops_issuance=True)
        assert verdict(of, approvable(), revocations=Revocations([stop]))[0] is Status.REVOKED

    def test_a_window_without_one_rests_on_none(self) -> None:
        assert approvals_of(window(), POLICY) is NOTHING_APPROVED
        assert approval_id(window()) == ""
