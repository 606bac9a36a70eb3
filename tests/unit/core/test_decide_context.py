"""Decisions on live context: conditions, facts, environments, limits, exceptions, approvals, rules in audit mode."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

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

from issuer.core.access import facts_needed_to_list, list_access
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant, LifetimeBound
from issuer.core.errors import Reason
from issuer.core.facts import Fact, FactKey
from issuer.core.facts_needed import facts_needed
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.token_request import GrantType, Intent, TokenRequest

if TYPE_CHECKING:
    from issuer.core.policy import Policy

FACTS = """\
facts:
  - {name: risk, subject: caller, max_age: 5m, fields: {score: int}}
  - {name: domain, subject: trust_domain, max_age: 5m, fields: {ok: bool}}
  - {name: stage, subject: environment, max_age: 5m, fields: {frozen: bool}}
  - {name: downstream, subject: audience, max_age: 5m, fields: {impact: string}}
  - {name: owner, subject: application, max_age: 5m, fields: {ok: bool}}
  - {name: workflow, subject: workflow, max_age: 1d, fields: {approved: bool}}
  - {name: change, subject: ticket, max_age: 1d, fields: {approved: bool}}
  - {name: flow, subject: transaction, max_age: 1d, fields: {open: bool}}
environments:
  - {name: production, workloads: ["spiffe://prod.example/**"]}
  - {name: lab, workloads: ["spiffe://prod.example/lab/**", "spiffe://lab.example/**"]}
conditions:
  - {name: calm, when: facts.risk.score < 80}
"""


def rules(*sections: str, **more: str) -> Policy:
    return policy(FACTS, *sections, **more)


def fact(kind: str, subject: str, age: timedelta = timedelta(0), **values: bool | int | str) -> Fact:
    seen = NOW - age
    return Fact(kind, subject, values, "test", seen, seen + timedelta(hours=1))


def known(*facts: Fact) -> dict[FactKey, Fact]:
    return {each.key: each for each in facts}


CALM = fact("risk", SETTLER, score=3)
WILD = fact("risk", SETTLER, score=81)


def reason(answer: Grant | Denial) -> Reason | None:
    return answer.reason if isinstance(answer, Denial) else None


class TestConditions:
    RULES = rules(grants(grant(when="facts.risk.score < 80")))

    def test_a_true_one_grants_and_its_fact_is_recorded(self) -> None:
        answer = decide(self.RULES, caller(), request(), known(CALM), NOW)
        assert isinstance(answer, Grant)
        assert answer.facts == (CALM,)
        assert answer.missing == ()

    def test_a_false_one_does_not_and_says_so(self) -> None:
        answer = decide(self.RULES, caller(), request(), known(WILD), NOW)
        assert answer == Denial(Reason.CONDITION_NOT_MET, ("read",), ("g",), self.RULES.digest, facts=(WILD,))

    def test_a_missing_fact_does_not_and_is_named(self) -> None:
        answer = decide(self.RULES, caller(), request(), {}, NOW)
        missing = ("facts.risk.score",)
        assert answer == Denial(Reason.FACT_MISSING, ("read",), ("g",), self.RULES.digest, missing)

    @pytest.mark.parametrize(
        "useless",
        [
            fact("risk", SETTLER, age=timedelta(minutes=5), score=3),  # as old as its type allows, to the second
            replace(CALM, expires_at=NOW),
            replace(CALM, observed_at=NOW + timedelta(seconds=6)),
            fact("risk", "spiffe://prod.example/other", score=3),
            fact("risk", SETTLER, other=3),
        ],
    )
    def test_a_fact_that_does_not_count_is_missing(self, useless: Fact) -> None:
        assert reason(decide(self.RULES, caller(), request(), known(useless), NOW)) is Reason.FACT_MISSING

    def test_a_fact_counts_until_the_moment_before(self) -> None:
        for usable in (
            fact("risk", SETTLER, age=timedelta(minutes=5) - timedelta(microseconds=1), score=3),
            replace(CALM, expires_at=NOW + timedelta(microseconds=1)),
            replace(CALM, observed_at=NOW + timedelta(seconds=5)),
        ):
            assert reason(decide(self.RULES, caller(), request(), known(usable), NOW)) is None

    def test_all_of_them_must_be_true(self) -> None:
        both = rules(grants(grant(requires="[calm]", when="request.intent.operation == 'settle'")))
        asked = TokenRequest(LEDGER, ("read",), intent=Intent(operation="settle"))
        other = TokenRequest(LEDGER, ("read",), intent=Intent(operation="steal"))
        assert reason(decide(both, caller(), asked, known(CALM), NOW)) is None
        assert reason(decide(both, caller(), other, known(CALM), NOW)) is Reason.CONDITION_NOT_MET
        assert reason(decide(both, caller(), request(), known(CALM), NOW)) is Reason.FACT_MISSING
        assert reason(decide(both, caller(), asked, known(WILD), NOW)) is Reason.CONDITION_NOT_MET

    def test_another_grant_may_do_instead(self) -> None:
        two = rules(
            grants(grant("wild", when="facts.risk.score >= 80", max_ttl="1m"), grant("calm", requires="[calm]"))
        )
        for known_fact, expected in ((CALM, "calm"), (WILD, "wild")):
            answer = decide(two, caller(), request(), known(known_fact), NOW)
            assert isinstance(answer, Grant)
            assert answer.rule_ids == (expected,)

    def test_every_variable_is_bound_to_what_it_says(self) -> None:
        when = (
            "caller.spiffe_id == 'spiffe://prod.example/ns/payments/sa/settler'"
            " && caller.trust_domain == 'prod.example' && caller.path == '/ns/payments/sa/settler'"
            " && caller.environments == ['production']"
            " && caller.svid_expires == timestamp('2026-06-01T14:00:00Z') && now == timestamp('2026-06-01T12:00:00Z')"
            " && request.audience == 'https://ledger.example' && request.scopes == ['read']"
            " && request.grant_type == 'client_credentials' && request.application == 'payments'"
            " && request.ttl == duration('60s') && request.intent.resource == 'r' && request.intent.workflow == 'w'"
            " && request.intent.ticket == 't' && request.intent.transaction == 'x' && request.intent.operation == 'o'"
        )
        all_of_them = rules(grants(grant(when=f'"{when}"', application="payments")))
        asked = request(ttl=timedelta(minutes=1), application="payments")
        intent = Intent("o", "r", "w", "t", "x")
        assert reason(decide(all_of_them, caller(), replace(asked, intent=intent), {}, NOW)) is None
        assert reason(decide(all_of_them, caller(), asked, {}, NOW)) is Reason.FACT_MISSING

    @pytest.mark.parametrize("claim", ["request.application == 'x'", "request.ttl > duration('1s')"])
    def test_what_the_caller_did_not_claim_is_missing_whatever_the_operator(self, claim: str) -> None:
        one = rules(grants(grant(when=f'"{claim} || true"')))
        assert reason(decide(one, caller(), request(), {}, NOW)) is Reason.FACT_MISSING

    def test_a_list_of_a_fact_is_a_list(self) -> None:
        types = FACTS.replace("{score: int}", "{score: int, tags: list(string)}")
        one = policy(types, grants(grant(when="\"facts.risk.tags == ['a', 'b'] && 'a' in facts.risk.tags\"")))
        tagged = replace(CALM, values={"tags": ("a", "b")})
        assert reason(decide(one, caller(), request(), known(tagged), NOW)) is None

    def test_the_environments_are_sorted(self) -> None:
        inside = "spiffe://prod.example/lab/x"
        one = rules(grants(grant(when="\"caller.environments == ['lab', 'production']\"", workload=inside)))
        assert reason(decide(one, caller(inside), request(), {}, NOW)) is None

    def test_a_condition_is_evaluated_for_each_application(self) -> None:
        """What it came to for one application must not be remembered for another, or for none."""
        two = rules(
            grants(grant("x", application="x"), grant("y", application="y", mode="audit")),
            prohibitions(prohibition(when="'!facts.owner.ok'")),
        )
        answer = decide(two, caller(), request(), known(fact("owner", "x", ok=True)), NOW)
        assert isinstance(answer, Grant)
        assert answer.shadow is not None
        assert answer.shadow.reason is Reason.AUDIENCE_NOT_ALLOWED

    def test_the_application_does_not_change_with_the_weather(self) -> None:
        """A condition that fails must not let the other application's grant answer in its place."""
        two = rules(grants(grant("a", requires="[calm]", application="x"), grant("b", application="y")))
        assert reason(decide(two, caller(), request(), known(WILD), NOW)) is Reason.APPLICATION_REQUIRED


class TestSubjects:
    @pytest.mark.parametrize(
        ("when", "usable"),
        [
            ("facts.domain.ok", fact("domain", "prod.example", ok=True)),
            ("!facts.stage.frozen", fact("stage", "production", frozen=False)),
            ("facts.downstream.impact == 'low'", fact("downstream", LEDGER, impact="low")),
            ("facts.owner.ok", fact("owner", "payments", ok=True)),
        ],
    )
    def test_what_comes_from_proof_or_policy_is_looked_up_freely(self, when: str, usable: Fact) -> None:
        one = rules(grants(grant(when=f'"{when}"', application="payments")))
        assert facts_needed(one, caller(), request()) == {usable.key}
        assert reason(decide(one, caller(), request(), known(usable), NOW)) is None

    @pytest.mark.parametrize(
        ("when", "kind", "field"),
        [
            ("facts.workflow.approved", "workflow", "approved"),
            ("facts.change.approved", "change", "approved"),
            ("facts.flow.open", "flow", "open"),
        ],
    )
    def test_another_callers_approved_ticket_cannot_be_borrowed(self, when: str, kind: str, field: str) -> None:
        one = rules(grants(grant(when=when)))
        asked = TokenRequest(LEDGER, ("read",), intent=Intent(workflow="T-1", ticket="T-1", transaction="T-1"))
        own = replace(fact(kind, "T-1"), values={field: True}, caller=SETTLER, audience=LEDGER)
        assert facts_needed(one, caller(), asked) == {own.key}
        assert reason(decide(one, caller(), asked, known(own), NOW)) is None
        for borrowed in (
            replace(own, caller="spiffe://prod.example/other"),
            replace(own, audience="https://mail.example"),
            replace(own, caller=None),
            replace(own, audience=None),
        ):
            assert reason(decide(one, caller(), asked, known(borrowed), NOW)) is Reason.FACT_MISSING
        assert facts_needed(one, caller(), request()) == frozenset()
        assert reason(decide(one, caller(), request(), known(own), NOW)) is Reason.FACT_MISSING

    def test_a_caller_of_two_environments_has_no_facts_about_one(self) -> None:
        one = rules(grants(grant(when="facts.stage.frozen == false", workload="spiffe://prod.example/lab/x")))
        both = known(fact("stage", "production", frozen=False), fact("stage", "lab", frozen=False))
        answer = decide(one, caller("spiffe://prod.example/lab/x"), request(), both, NOW)
        assert reason(answer) is Reason.FACT_MISSING

    def test_nothing_is_asked_for_a_caller_that_no_grant_speaks_of(self) -> None:
        one = rules(grants(grant(when="facts.risk.score < 80")))
        assert facts_needed(one, caller("spiffe://prod.example/other"), request()) == frozenset()
        assert facts_needed(policy(grants(grant())), caller(), request()) == frozenset()

    def test_a_scope_that_nobody_declares_needs_nothing(self) -> None:
        one = rules(grants(grant(when="facts.risk.score < 80")))
        assert facts_needed(one, caller(), request("nonsense")) == {FactKey("risk", SETTLER)}
        assert reason(decide(one, caller(), request("nonsense"), known(CALM), NOW)) is Reason.SCOPE_NOT_ALLOWED

    def test_only_facts_of_the_application_that_is_asked_for_are_needed(self) -> None:
        two = rules(grants(grant("a", when="facts.owner.ok", application="x"), grant("b", application="y")))
        assert facts_needed(two, caller(), request(application="x")) == {FactKey("owner", "x")}
        assert facts_needed(two, caller(), request()) == {FactKey("owner", "x"), FactKey("owner", "y")}


class TestProhibitions:
    def test_one_with_a_condition_prohibits_while_it_holds(self) -> None:
        frozen = rules(grants(grant()), prohibitions(prohibition(when="facts.risk.score >= 80")))
        assert reason(decide(frozen, caller(), request(), known(CALM), NOW)) is None
        answer = decide(frozen, caller(), request(), known(WILD), NOW)
        assert isinstance(answer, Denial)
        assert (answer.reason, answer.rule_ids) == (Reason.AUDIENCE_NOT_ALLOWED, ("p",))

    def test_one_that_cannot_be_evaluated_prohibits_and_the_record_says_which_fact(self) -> None:
        for when in ("facts.risk.score >= 80", "1 / 0 == 1"):
            frozen = rules(grants(grant()), prohibitions(prohibition(when=when, scopes="[read]")))
            assert reason(decide(frozen, caller(), request(), {}, NOW)) is Reason.FACT_MISSING
        frozen = rules(grants(grant()), prohibitions(prohibition(when="facts.risk.score >= 80")))
        answer = decide(frozen, caller(), request(), {}, NOW)
        assert isinstance(answer, Denial)
        assert answer.missing == ("facts.risk.score",)

    def test_several_conditions_are_all_needed_to_prohibit(self) -> None:
        frozen = rules(
            grants(grant()), prohibitions(prohibition(requires="[calm]", when="caller.path == '/elsewhere'"))
        )
        # One is unknown, but the other is known to be false: together they are false.
        assert reason(decide(frozen, caller(), request(), {}, NOW)) is None


class TestTiersAndApproval:
    TIERS = "risk_tiers: {high: {requires: [calm]}}"

    def test_a_tier_demands_conditions_of_its_scopes_alone(self) -> None:
        tiered = rules(self.TIERS, grants(grant(scopes="[read, write]")))
        assert facts_needed(tiered, caller(), request("write")) == {FactKey("risk", SETTLER)}
        assert facts_needed(tiered, caller(), request("read")) == frozenset()
        assert reason(decide(tiered, caller(), request("read"), {}, NOW)) is None
        assert reason(decide(tiered, caller(), request("write"), {}, NOW)) is Reason.FACT_MISSING
        assert reason(decide(tiered, caller(), request("write"), known(WILD), NOW)) is Reason.CONDITION_NOT_MET
        assert reason(decide(tiered, caller(), request("write"), known(CALM), NOW)) is None

    def test_a_scope_without_its_tiers_conditions_is_left_out_of_a_partial_answer(self) -> None:
        tiered = rules(self.TIERS, grants(grant(scopes="[read, write]")))
        answer = decide(tiered, caller(), request("read", "write", allow_partial=True), {}, NOW)
        assert isinstance(answer, Grant)
        assert (answer.scopes, answer.refused_scopes) == (("read",), ("write",))

    @pytest.mark.parametrize("of_the_tier", [True, False])
    def test_a_scope_that_needs_an_approval_is_not_granted_without_one(self, *, of_the_tier: bool) -> None:
        approval = "approval: {approvers: ['spiffe://prod.example/user/*'], valid_for: 15m}"
        if of_the_tier:
            approved = policy(f"risk_tiers: {{critical: {{{approval}}}}}", grants(grant(scopes="[read, refund]")))
        else:
            audiences = AUDIENCES.replace("risk: critical}", f"risk: critical, {approval}}}")
            approved = policy(grants(grant(scopes="[read, refund]")), audiences=audiences)
        answer = decide(approved, caller(), request("refund"), {}, NOW)
        assert isinstance(answer, Denial)
        assert (answer.reason, answer.scopes) == (Reason.APPROVAL_REQUIRED, ("refund",))
        partial = decide(approved, caller(), request("read", "refund", allow_partial=True), {}, NOW)
        assert isinstance(partial, Grant)
        assert partial.refused_scopes == ("refund",)


class TestLimits:
    def limited(self, **more: str) -> Policy:
        fields = {
            "id": "degraded",
            "workloads": f"[{SETTLER!r}]",
            "audiences": f"[{LEDGER!r}]",
            "when": "\"facts.downstream.impact == 'high'\"",
            **more,
        }
        limit = "limits:\n  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}\n"
        return rules(grants(grant(scopes="[read, report]")), limit)

    HIGH = fact("downstream", LEDGER, impact="high")
    LOW = fact("downstream", LEDGER, impact="low")

    def test_impact_shortens_the_lifetime_and_the_decision_says_which_rule_did(self) -> None:
        limited = self.limited(max_ttl="45s")
        answer = decide(limited, caller(), request(), known(self.HIGH), NOW)
        assert isinstance(answer, Grant)
        assert (answer.lifetime, answer.lifetime_bound, answer.lifetime_rule) == (
            timedelta(seconds=45),
            LifetimeBound.LIMIT,
            "degraded",
        )
        calm = decide(limited, caller(), request(), known(self.LOW), NOW)
        assert isinstance(calm, Grant)
        assert (calm.lifetime_bound, calm.lifetime_rule) == (LifetimeBound.AUDIENCE, LEDGER)

    def test_unknown_impact_counts_as_impact(self) -> None:
        answer = decide(self.limited(max_ttl="45s"), caller(), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert (answer.lifetime_rule, answer.missing) == ("degraded", ("facts.downstream.impact",))

    def test_impact_demands_conditions_of_the_scopes_it_names(self) -> None:
        limited = self.limited(requires="[calm]", scopes="[report]")
        high = known(self.HIGH, CALM)
        assert facts_needed(limited, caller(), request()) == high.keys()
        assert reason(decide(limited, caller(), request("report"), known(self.HIGH), NOW)) is Reason.FACT_MISSING
        assert reason(decide(limited, caller(), request("read"), known(self.HIGH), NOW)) is None
        assert reason(decide(limited, caller(), request("report"), high, NOW)) is None
        assert reason(decide(limited, caller(), request("report"), known(self.LOW), NOW)) is None

    def test_one_for_every_audience_limits_this_one(self) -> None:
        answer = decide(self.limited(max_ttl="45s", audiences="['*']"), caller(), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert answer.lifetime_rule == "degraded"


class TestEnvironments:
    AUDIENCES = AUDIENCES.replace("    application: ledger\n", "    application: ledger\n    environment: production\n")

    @pytest.mark.parametrize(
        ("workload", "environments", "allowed"),
        [
            ("spiffe://prod.example/ns/a", None, True),
            ("spiffe://lab.example/a", None, False),
            ("spiffe://lab.example/a", "[lab]", True),
            ("spiffe://prod.example/ns/a", "[lab]", False),
            ("spiffe://prod.example/lab/a", None, True),
            ("spiffe://nowhere.example/a", None, False),
        ],
    )
    def test_a_grant_reaches_its_environment_alone(
        self, workload: str, environments: str | None, *, allowed: bool
    ) -> None:
        more = {} if environments is None else {"environments": environments}
        isolated = rules(grants(grant(workload=workload, **more)), audiences=self.AUDIENCES)
        answer = decide(isolated, caller(workload), request(), {}, NOW)
        assert reason(answer) is (None if allowed else Reason.AUDIENCE_NOT_ALLOWED)


class TestLegacy:
    def exceptional(self, **more: str) -> Policy:
        legacy = "{reason: cannot renew, owner: team, expires: 2026-12-31, max_ttl: 4h}"
        text = AUDIENCES.replace("    max_ttl: 10m\n", "") + "risk_tiers: {low: {max_ttl: 1d}}\n"
        document = text + grants(grant(legacy=legacy, **more))
        return parse_policy([PolicyFile("policy.yaml", document.encode())], legacy_ceiling=timedelta(hours=8))

    def test_the_token_outlives_the_svid_and_says_so(self) -> None:
        answer = decide(self.exceptional(), caller(svid_rest=timedelta(minutes=5)), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert (answer.lifetime, answer.lifetime_bound, answer.legacy) == (
            timedelta(hours=4),
            LifetimeBound.LEGACY,
            True,
        )
        assert not answer.bind_certificate
        assert answer.status, "what cannot be renewed must be revocable where it is used"

    def test_a_bound_token_never_does(self) -> None:
        asked = request(bind_certificate=True)
        answer = decide(self.exceptional(), caller(svid_rest=timedelta(minutes=5)), asked, {}, NOW)
        assert isinstance(answer, Grant)
        assert (answer.lifetime, answer.legacy, answer.status) == (timedelta(minutes=5), False, False)

    def test_it_ends_with_the_exception_and_so_do_its_tokens(self) -> None:
        last = datetime(2027, 1, 1, tzinfo=UTC) - timedelta(minutes=1)
        svid = replace(caller(), not_after=last + timedelta(minutes=2))
        answer = decide(self.exceptional(), svid, request(), {}, last)
        assert isinstance(answer, Grant)
        assert answer.lifetime == timedelta(minutes=1)
        over = decide(self.exceptional(), svid, request(), {}, last + timedelta(seconds=51))
        assert reason(over) is Reason.GRANT_EXPIRED

    def test_the_grants_own_end_counts_too(self) -> None:
        exceptional = self.exceptional(expires="2026-06-01T12:30:00Z")
        answer = decide(exceptional, caller(), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert answer.lifetime_bound is LifetimeBound.GRANT_EXPIRY


@pytest.mark.parametrize(
    ("audience", "tiers", "scopes", "status"),
    [
        ("", "", ["read", "write"], False),
        ("", "risk_tiers: {low: {status: none}}", ["read"], False),
        ("status: required", "risk_tiers: {low: {status: none}}", ["read"], True),
        ("status: none", "risk_tiers: {low: {status: required}}", ["read"], True),
        ("", "risk_tiers: {high: {status: required}}", ["read"], False),
        ("", "risk_tiers: {high: {status: required}}", ["read", "write"], True),
    ],
)
def test_a_token_has_a_status_when_its_audience_or_one_of_its_tiers_requires_it(
    audience: str, tiers: str, scopes: list[str], *, status: bool
) -> None:
    text = AUDIENCES.replace("    max_ttl: 10m\n", f"    {audience}\n", 1)
    loaded = policy(tiers, grants(grant(scopes="[read, write]")), audiences=text)
    answer = decide(loaded, caller(), request(*scopes), {}, NOW)
    assert isinstance(answer, Grant)
    assert answer.status is status


class TestTooShortUnderAllowPartial:
    LEGACY = "{reason: old, owner: team, expires: 2026-12-31, max_ttl: 4h}"

    def answer(self, *more: str, svid_rest: int = 5, allow_partial: bool = True) -> Grant | Denial:
        rules_ = grants(grant("old", legacy=self.LEGACY), grant("new", "[report]"))
        text = AUDIENCES + rules_ + "".join(more)
        loaded = parse_policy([PolicyFile("policy.yaml", text.encode())], legacy_ceiling=timedelta(hours=4))
        asked = request("read", "report", allow_partial=allow_partial)
        return decide(loaded, caller(svid_rest=timedelta(seconds=svid_rest)), asked, {}, NOW)

    def test_a_scope_that_alone_would_be_too_short_is_left_out(self) -> None:
        answer = self.answer()
        assert isinstance(answer, Grant)
        assert (answer.scopes, answer.refused_scopes, answer.legacy) == (("read",), ("report",), True)

    def test_without_allow_partial_it_refuses_all(self) -> None:
        assert reason(self.answer(allow_partial=False)) is Reason.SVID_EXPIRES_SOON

    def test_a_prohibition_of_that_scope_therefore_gives_nothing_more(self) -> None:
        answer = self.answer(prohibitions(prohibition(scopes="[report]")))
        assert isinstance(answer, Grant)
        assert answer.scopes == ("read",)

    def test_when_every_scope_is_too_short_nothing_is_issued(self) -> None:
        both = grants(grant("new", "[read, report]"))
        asked = request("read", "report", allow_partial=True)
        answer = decide(policy(both), caller(svid_rest=timedelta(seconds=5)), asked, {}, NOW)
        assert reason(answer) is Reason.SVID_EXPIRES_SOON

    @pytest.mark.parametrize("svid_rest", [10, 60])
    def test_scopes_that_live_long_enough_stay_together(self, svid_rest: int) -> None:
        answer = self.answer(svid_rest=svid_rest)
        assert isinstance(answer, Grant)
        assert (answer.scopes, answer.refused_scopes) == (("read", "report"), ())


class TestAuditMode:
    def test_a_grant_gives_nothing_and_is_recorded(self) -> None:
        audited = policy(grants(grant(mode="audit")))
        answer = decide(audited, caller(), request(), {}, NOW)
        assert isinstance(answer, Denial)
        assert answer.reason is Reason.AUDIENCE_NOT_ALLOWED
        assert answer.shadow is not None
        assert (answer.shadow.reason, answer.shadow.scopes, answer.shadow.rule_ids) == (None, ("read",), ("g",))

    def test_a_prohibition_takes_nothing_and_is_recorded(self) -> None:
        audited = policy(grants(grant()), prohibitions(prohibition(mode="audit")))
        answer = decide(audited, caller(), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert answer.shadow is not None
        assert (answer.shadow.reason, answer.shadow.rule_ids) == (Reason.AUDIENCE_NOT_ALLOWED, ("p",))

    def test_a_limit_shortens_nothing_and_is_recorded(self) -> None:
        what = f"id: l, workloads: [{SETTLER!r}], audiences: ['*']"
        limit = f"limits:\n  - {{{what}, when: 'true', max_ttl: 20s, mode: audit}}"
        answer = decide(policy(grants(grant()), limit), caller(), request(), {}, NOW)
        assert isinstance(answer, Grant)
        assert answer.lifetime == timedelta(minutes=10)
        assert answer.shadow is not None
        assert answer.shadow.lifetime == timedelta(seconds=20)

    def test_one_that_would_change_nothing_is_not_worth_a_word(self) -> None:
        audited = policy(grants(grant(), grant("more", mode="audit", max_ttl="1m")))
        assert decide(audited, caller(), request(), {}, NOW).shadow is None


def test_a_grant_type_that_no_rule_allows_is_told() -> None:
    exchanging = policy(grants(grant(grant_types="[token_exchange]")))
    asked = replace(request(), grant_type=GrantType.TOKEN_EXCHANGE)
    answer = decide(exchanging, caller(), asked, {}, NOW)
    assert isinstance(answer, Grant)
    assert answer.grant_type is GrantType.TOKEN_EXCHANGE
    assert reason(decide(exchanging, caller(), request(), {}, NOW)) is Reason.GRANT_TYPE_NOT_ALLOWED


class TestAccess:
    def test_what_is_missing_or_unmet_is_named_without_the_text_of_rules(self) -> None:
        approval = "approval: {approvers: ['spiffe://prod.example/user/*'], valid_for: 15m}"
        listed = rules(
            "risk_tiers: {moderate: {requires: [calm]}}",
            grants(
                grant("a", "[read, report]"),
                grant("b", "[write]", when="now.getHours('UTC') == 3"),
                grant("c", "[refund]", when="request.intent.ticket == 'x'"),
            ),
            audiences=AUDIENCES.replace("risk: critical}", f"risk: critical, {approval}}}"),
        )
        assert facts_needed_to_list(listed, caller()) == {FactKey("risk", SETTLER)}
        (access,) = list_access(listed, caller(), known(WILD), NOW)
        found = {s.name: (s.available, s.missing, s.unmet, s.approval_required) for s in access.scopes}
        assert found == {
            "read": (True, (), (), False),
            "refund": (False, ("request.intent.ticket",), (), True),
            "report": (False, (), ("calm",), False),
            "write": (False, (), ("condition",), False),
        }

    def test_what_is_out_of_reach_is_not_listed(self) -> None:
        assert list_access(rules(grants(grant()), prohibitions(prohibition())), caller(), {}, NOW) == ()
        assert list_access(policy(grants(grant(mode="audit"))), caller(), {}, NOW) == ()

    def test_no_facts_are_needed_where_none_is_declared(self) -> None:
        assert facts_needed_to_list(policy(grants(grant())), caller()) == frozenset()
