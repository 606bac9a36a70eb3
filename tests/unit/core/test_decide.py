from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.policies import (
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

from issuer.core.decide import MAX_RULE_IDS, decide
from issuer.core.decision import Denial, Grant, LifetimeBound
from issuer.core.errors import Reason
from issuer.core.token_request import GrantType, TokenRequest

if TYPE_CHECKING:
    from issuer.core.policy import Policy


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def granted(rules: Policy, asked: TokenRequest, **more: object) -> Grant:
    outcome = decide(rules, caller(**more), asked, {}, NOW)  # type: ignore[arg-type]
    assert isinstance(outcome, Grant), outcome
    return outcome


def denied(rules: Policy, asked: TokenRequest, **more: object) -> Denial:
    outcome = decide(rules, caller(**more), asked, {}, NOW)  # type: ignore[arg-type]
    assert isinstance(outcome, Denial), outcome
    return outcome


class TestDenyByDefault:
    def test_a_policy_without_grants_grants_nothing(self) -> None:
        outcome = denied(policy(), request())
        assert outcome == Denial(Reason.AUDIENCE_NOT_ALLOWED, (), (), policy().digest)

    def test_an_unknown_audience_and_one_that_is_not_allowed_are_refused_alike(self) -> None:
        rules = policy(grants(grant()))
        not_allowed = denied(rules, request("send", audience="https://mail.example"))
        unknown = denied(rules, request("send", audience="https://nowhere.example"))
        assert not_allowed == unknown == Denial(Reason.AUDIENCE_NOT_ALLOWED, (), (), rules.digest)

    def test_an_unknown_scope_and_one_that_is_not_granted_are_refused_alike(self) -> None:
        rules = policy(grants(grant()))
        for scope in ("write", "nonsense"):
            assert denied(rules, request(scope)) == Denial(Reason.SCOPE_NOT_ALLOWED, (scope,), ("g",), rules.digest)

    def test_another_workload_gets_nothing(self) -> None:
        outcome = denied(policy(grants(grant())), request(), spiffe_id="spiffe://prod.example/ns/payments/sa/other")
        assert outcome.reason is Reason.AUDIENCE_NOT_ALLOWED

    def test_the_same_path_in_another_trust_domain_gets_nothing(self) -> None:
        outcome = denied(policy(grants(grant())), request(), spiffe_id=SETTLER.replace("prod", "evil"))
        assert outcome.reason is Reason.AUDIENCE_NOT_ALLOWED

    def test_a_grant_for_another_grant_type_gives_nothing(self) -> None:
        rules = policy(grants(grant(grant_types="[token_exchange]")))
        assert denied(rules, request()).reason is Reason.GRANT_TYPE_NOT_ALLOWED


def test_a_grant_says_all_that_the_token_may_be() -> None:
    rules = policy(grants(grant("g1", application="payments", max_ttl="90s"), grant("g2", "[report]")))
    assert granted(rules, request("report", "read")) == Grant(
        audience=LEDGER,
        scopes=("report", "read"),
        lifetime=seconds(90),
        lifetime_bound=LifetimeBound.GRANT,
        application="payments",
        bind_certificate=False,
        rule_ids=("g1", "g2"),
        refused_scopes=(),
        policy_digest=rules.digest,
        lifetime_rule="g1",
        grant_type=GrantType.CLIENT_CREDENTIALS,
    )


def test_the_rules_of_a_grant_are_sorted() -> None:
    scopes = "hgfedcba"
    declared = ", ".join(f"{{name: {scope}, risk: low}}" for scope in scopes)
    audiences = f"version: 1\naudiences:\n  - {{name: {LEDGER}, application: a, scopes: [{declared}]}}\n"
    rules = policy(grants(*(grant(f"g{scope}", f"[{scope}]") for scope in scopes)), audiences=audiences)
    assert granted(rules, request(*scopes)).rule_ids == tuple(f"g{scope}" for scope in sorted(scopes))


class TestProhibitions:
    def test_one_without_scopes_refuses_the_audience(self) -> None:
        rules = policy(grants(grant()), prohibitions(prohibition("freeze")))
        assert denied(rules, request()) == Denial(Reason.AUDIENCE_NOT_ALLOWED, (), ("freeze",), rules.digest)

    def test_one_with_scopes_refuses_those_alone(self) -> None:
        rules = policy(grants(grant(scopes="[read, write]")), prohibitions(prohibition("freeze", scopes="[write]")))
        assert granted(rules, request("read")).scopes == ("read",)
        expected = Denial(Reason.SCOPE_NOT_ALLOWED, ("write",), ("freeze",), rules.digest)
        assert denied(rules, request("read", "write")) == expected

    def test_every_one_that_hits_a_refused_scope_is_recorded(self) -> None:
        hit = [prohibition("b", scopes="[write]"), prohibition("a", scopes="[write, refund]")]
        rules = policy(grants(grant(scopes="[read, write]")), prohibitions(*hit, prohibition("c", scopes="[refund]")))
        assert denied(rules, request("read", "write")).rule_ids == ("a", "b")

    def test_one_of_all_audiences_refuses_every_audience(self) -> None:
        rules = policy(grants(grant()), prohibitions(prohibition(audiences="['*']")))
        assert denied(rules, request()).reason is Reason.AUDIENCE_NOT_ALLOWED

    def test_one_of_other_workloads_or_audiences_refuses_nothing(self) -> None:
        elsewhere = prohibition("a", workload="spiffe://prod.example/other/**")
        mail = prohibition("b", audiences="['https://mail.example']")
        assert granted(policy(grants(grant()), prohibitions(elsewhere, mail)), request()).scopes == ("read",)

    def test_a_refused_scope_is_left_out_of_a_partial_answer(self) -> None:
        rules = policy(grants(grant(scopes="[read, write]")), prohibitions(prohibition(scopes="[write]")))
        outcome = granted(rules, request("write", "read", allow_partial=True))
        assert (outcome.scopes, outcome.refused_scopes) == (("read",), ("write",))

    def test_one_hides_that_a_grant_has_expired(self) -> None:
        rules = policy(grants(grant(expires="2026-01-01")), prohibitions(prohibition()))
        assert denied(rules, request()).reason is Reason.AUDIENCE_NOT_ALLOWED


class TestDates:
    @pytest.mark.parametrize(
        ("dates", "allowed"),
        [
            ({"expires": "2026-06-01T12:00:10Z"}, True),
            ({"expires": "2026-06-01T12:00:09Z"}, False),
            ({"expires": "2026-06-01T12:00:00Z"}, False),
            ({"expires": "2026-06-01"}, True),
            ({"expires": "2026-05-31"}, False),
            ({"not_before": "2026-06-01T12:00:00Z"}, True),
            ({"not_before": "2026-06-01T12:00:01Z"}, False),
            ({"not_before": "2026-06-01"}, True),
            ({"not_before": "2026-06-02"}, False),
        ],
    )
    def test_a_grant_outside_of_its_dates_says_so(self, dates: dict[str, str], *, allowed: bool) -> None:
        rules = policy(grants(grant(**dates)))
        if allowed:
            assert granted(rules, request()).scopes == ("read",)
        else:
            assert denied(rules, request()) == Denial(Reason.GRANT_EXPIRED, (), ("g",), rules.digest)

    def test_a_scope_whose_only_grant_expired_is_named(self) -> None:
        rules = policy(grants(grant("g1"), grant("g2", "[write]", expires="2026-01-01")))
        expected = Denial(Reason.GRANT_EXPIRED, ("write",), ("g2",), rules.digest)
        assert denied(rules, request("read", "write")) == expected

    def test_an_expired_grant_that_would_not_have_allowed_is_not_told(self) -> None:
        rules = policy(grants(grant("g1"), grant("g2", "[write]", expires="2026-01-01")))
        outcome = denied(rules, request("read", "write", "refund"))
        assert (outcome.reason, outcome.scopes) == (Reason.SCOPE_NOT_ALLOWED, ("write", "refund"))

    def test_an_expired_grant_for_other_scopes_does_not_tell_that_the_audience_exists(self) -> None:
        rules = policy(grants(grant(scopes="[write]", expires="2026-01-01")))
        assert denied(rules, request("read")).reason is Reason.AUDIENCE_NOT_ALLOWED

    def test_an_application_whose_only_grant_expired_says_so(self) -> None:
        rules = policy(grants(grant("a", application="x"), grant("b", application="y", expires="2026-01-01")))
        assert denied(rules, request(application="y")).reason is Reason.GRANT_EXPIRED
        assert granted(rules, request()).application == "x"

    def test_an_expired_scope_is_left_out_of_a_partial_answer(self) -> None:
        rules = policy(grants(grant("a"), grant("b", "[write]", expires="2026-01-01")))
        outcome = granted(rules, request("read", "write", allow_partial=True))
        assert (outcome.scopes, outcome.refused_scopes) == (("read",), ("write",))


class TestApplication:
    def test_none_is_named_where_no_grant_names_one(self) -> None:
        assert granted(policy(grants(grant())), request()).application is None

    def test_the_only_one_is_taken(self) -> None:
        assert granted(policy(grants(grant(application="payments"))), request()).application == "payments"

    def test_one_of_several_must_be_chosen(self) -> None:
        rules = policy(grants(grant("a", application="x"), grant("b", application="y")))
        assert denied(rules, request()) == Denial(Reason.APPLICATION_REQUIRED, (), ("a", "b"), rules.digest)
        assert granted(rules, request(application="y")).application == "y"

    def test_several_must_be_chosen_from_even_where_one_alone_gives_the_scope(self) -> None:
        rules = policy(grants(grant("a", "[read]", application="x"), grant("b", "[write]", application="y")))
        assert denied(rules, request("read")).reason is Reason.APPLICATION_REQUIRED

    @pytest.mark.parametrize("named", [{}, {"application": "payments"}])
    def test_one_that_no_grant_names_is_refused(self, named: dict[str, str]) -> None:
        rules = policy(grants(grant(**named)))
        expected = Denial(Reason.APPLICATION_NOT_ALLOWED, (), ("g",), rules.digest)
        assert denied(rules, request(application="other")) == expected

    def test_the_scopes_of_one_token_never_come_from_two_applications(self) -> None:
        rules = policy(grants(grant("a", "[read]", application="x"), grant("b", "[write]", application="y")))
        outcome = denied(rules, request("read", "write", application="x"))
        assert outcome == Denial(Reason.SCOPE_NOT_ALLOWED, ("write",), ("a",), rules.digest)

    def test_a_grant_without_application_adds_its_scopes_to_any(self) -> None:
        rules = policy(grants(grant("a", "[read]"), grant("b", "[write]", application="y")))
        assert granted(rules, request("read", "write")).application == "y"
        assert granted(rules, request("read")).application == "y"

    def test_that_of_another_audience_does_not_count(self) -> None:
        mail = grant("b", "[send]", audience="https://mail.example", application="y")
        rules = policy(grants(grant("a", application="x"), mail))
        assert granted(rules, request()).application == "x"
        assert denied(rules, request(application="y")).reason is Reason.APPLICATION_NOT_ALLOWED

    def test_one_application_of_two_grants_is_one(self) -> None:
        rules = policy(grants(grant("a", application="x"), grant("b", "[write]", application="x")))
        assert granted(rules, request("read", "write")).application == "x"


class TestScopes:
    def test_one_refused_scope_refuses_all(self) -> None:
        rules = policy(grants(grant(scopes="[read, report]")))
        outcome = denied(rules, request("read", "write", "report", "refund"))
        assert (outcome.reason, outcome.scopes) == (Reason.SCOPE_NOT_ALLOWED, ("write", "refund"))

    def test_a_partial_answer_keeps_the_order_of_the_request(self) -> None:
        rules = policy(grants(grant(scopes="[read, report]")))
        outcome = granted(rules, request("write", "report", "refund", "read", allow_partial=True))
        assert (outcome.scopes, outcome.refused_scopes) == (("report", "read"), ("write", "refund"))

    def test_a_partial_answer_with_nothing_in_it_is_a_denial(self) -> None:
        outcome = denied(policy(grants(grant())), request("write", "refund", allow_partial=True))
        assert (outcome.reason, outcome.scopes) == (Reason.SCOPE_NOT_ALLOWED, ("write", "refund"))

    def test_allow_partial_without_refused_scopes_changes_nothing(self) -> None:
        rules = policy(grants(grant()))
        assert granted(rules, request("read", allow_partial=True)) == granted(rules, request("read"))

    def test_a_denial_names_a_bounded_number_of_rules(self) -> None:
        assert MAX_RULE_IDS == 16
        rules = policy(grants(*(grant(f"g{number:02}") for number in range(MAX_RULE_IDS + 1))))
        assert denied(rules, request("write")).rule_ids == tuple(f"g{number:02}" for number in range(MAX_RULE_IDS))


class TestLifetime:
    @pytest.mark.parametrize(
        ("scopes", "more", "asked", "rest", "expected", "bound"),
        [
            (("read",), {}, None, 7200, 600, LifetimeBound.AUDIENCE),
            (("read",), {"max_ttl": "90s"}, None, 7200, 90, LifetimeBound.GRANT),
            (("write",), {}, None, 7200, 120, LifetimeBound.SCOPE),
            (("refund",), {}, None, 7200, 120, LifetimeBound.RISK_TIER),
            (("read", "write"), {}, None, 7200, 120, LifetimeBound.SCOPE),
            (("read",), {}, 60, 7200, 60, LifetimeBound.REQUEST),
            (("read",), {}, 601, 7200, 600, LifetimeBound.AUDIENCE),
            (("read",), {}, 600, 7200, 600, LifetimeBound.REQUEST),
            (("read",), {}, None, 599.999, 599, LifetimeBound.SVID),
            (("read",), {}, None, 600, 600, LifetimeBound.AUDIENCE),
            (("read",), {"expires": "2026-06-01T12:09:59Z"}, None, 7200, 599, LifetimeBound.GRANT_EXPIRY),
            (("read",), {"expires": "2026-06-01T12:00:10Z"}, None, 7200, 10, LifetimeBound.GRANT_EXPIRY),
            (("read",), {}, 10, 7200, 10, LifetimeBound.REQUEST),
            (("read",), {}, None, 10, 10, LifetimeBound.SVID),
        ],
    )
    def test_is_the_minimum_of_all_terms(
        self,
        *,
        scopes: tuple[str, ...],
        more: dict[str, str],
        asked: float | None,
        rest: float,
        expected: int,
        bound: LifetimeBound,
    ) -> None:
        rules = policy(grants(grant(scopes="[read, report, write, refund]", **more)))
        ttl = None if asked is None else seconds(asked)
        outcome = granted(rules, request(*scopes, ttl=ttl), svid_rest=seconds(rest))
        assert (outcome.lifetime, outcome.lifetime_bound) == (seconds(expected), bound)

    def test_the_grant_with_the_longest_lifetime_counts(self) -> None:
        rules = policy(grants(grant("a", max_ttl="60s"), grant("b", max_ttl="90s"), grant("c", max_ttl="80s")))
        outcome = granted(rules, request())
        assert (outcome.lifetime, outcome.rule_ids) == (seconds(90), ("b",))

    def test_of_grants_with_the_same_lifetime_the_lowest_id_counts(self) -> None:
        rules = policy(grants(grant("c", max_ttl="90s"), grant("b", max_ttl="90s"), grant("d", max_ttl="90s")))
        assert granted(rules, request()).rule_ids == ("b",)
        assert granted(rules, request(ttl=seconds(30))).rule_ids == ("b",)

    def test_a_grant_with_a_later_end_counts_where_the_other_ends_sooner(self) -> None:
        soon = grant("a", expires="2026-06-01T12:01:00Z")
        rules = policy(grants(soon, grant("b", max_ttl="2m")))
        assert granted(rules, request()).rule_ids == ("b",)

    def test_a_scope_left_out_of_a_partial_answer_does_not_shorten_it(self) -> None:
        rules = policy(grants(grant(scopes="[read, write]")), prohibitions(prohibition(scopes="[write]")))
        assert granted(rules, request("read", "write", allow_partial=True)).lifetime == seconds(600)

    @pytest.mark.parametrize("rest", [9.999999, 9, 0, -5])
    def test_an_svid_that_ends_too_soon_must_be_renewed_first(self, rest: float) -> None:
        rules = policy(grants(grant()))
        expected = Denial(Reason.SVID_EXPIRES_SOON, (), ("g",), rules.digest)
        assert denied(rules, request(), svid_rest=seconds(rest)) == expected

    @pytest.mark.parametrize("asked", [0.5, 9, 9.999])
    def test_a_wish_below_the_shortest_lifetime_is_an_invalid_request(self, asked: float) -> None:
        assert denied(policy(grants(grant())), request(ttl=seconds(asked))).reason is Reason.REQUEST_INVALID

    def test_min_ttl_of_the_policy_is_the_boundary(self) -> None:
        rules = policy("min_ttl: 30s", grants(grant()))
        assert granted(rules, request(), svid_rest=seconds(30)).lifetime == seconds(30)
        assert denied(rules, request(), svid_rest=seconds(29)).reason is Reason.SVID_EXPIRES_SOON
        assert granted(rules, request(ttl=seconds(30))).lifetime == seconds(30)
        assert denied(rules, request(ttl=seconds(29))).reason is Reason.REQUEST_INVALID

    def test_a_refusal_of_policy_comes_before_the_state_of_the_svid(self) -> None:
        assert denied(policy(grants(grant())), request("write"), svid_rest=seconds(1)).scopes == ("write",)


class TestBinding:
    @pytest.mark.parametrize(
        ("scopes", "asked", "bound"),
        [
            (("read",), False, False),
            (("read",), True, True),
            (("report",), False, False),
            (("write",), False, True),
            (("refund",), False, True),
            (("read", "write"), False, True),
        ],
    )
    def test_the_token_is_bound_when_asked_or_when_a_tier_demands_it(
        self, scopes: tuple[str, ...], *, asked: bool, bound: bool
    ) -> None:
        rules = policy(grants(grant(scopes="[read, report, write, refund]")))
        assert granted(rules, request(*scopes, bind_certificate=asked)).bind_certificate is bound

    def test_a_scope_that_was_refused_does_not_bind(self) -> None:
        assert not granted(policy(grants(grant())), request("read", "write", allow_partial=True)).bind_certificate

    def test_a_policy_may_set_what_a_tier_demands(self) -> None:
        tiers = "risk_tiers: {low: {proof_binding: required, max_ttl: 20s}, high: {proof_binding: optional}}"
        rules = policy(tiers, grants(grant(scopes="[read, write]")))
        low = granted(rules, request("read"))
        assert (low.bind_certificate, low.lifetime, low.lifetime_bound) == (True, seconds(20), LifetimeBound.RISK_TIER)
        assert not granted(rules, request("write")).bind_certificate
