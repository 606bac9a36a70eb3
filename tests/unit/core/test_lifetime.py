from __future__ import annotations

from datetime import timedelta

import pytest
from support.policies import NOW, grant, grants, policy

from issuer.core.decision import LifetimeBound
from issuer.core.lifetime import Limit, policy_limits, request_limit, shortest, svid_limit


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("scope", "more", "expected", "bound"),
    [
        ("read", {}, 600, LifetimeBound.AUDIENCE),
        ("report", {}, 600, LifetimeBound.AUDIENCE),
        ("write", {}, 120, LifetimeBound.SCOPE),
        ("refund", {}, 120, LifetimeBound.RISK_TIER),
        ("read", {"max_ttl": "599s"}, 599, LifetimeBound.GRANT),
        ("read", {"max_ttl": "601s"}, 600, LifetimeBound.AUDIENCE),
        ("write", {"max_ttl": "119s"}, 119, LifetimeBound.GRANT),
        ("read", {"expires": "2026-06-01T12:05:00Z"}, 300, LifetimeBound.GRANT_EXPIRY),
        ("read", {"expires": "2026-06-01T12:10:00Z"}, 600, LifetimeBound.AUDIENCE),
    ],
)
def test_policy_sets_the_shortest_of_its_terms(
    scope: str, more: dict[str, str], expected: int, bound: LifetimeBound
) -> None:
    rules = policy(grants(grant(scopes=f"[{scope}]", **more)))
    limit = shortest(policy_limits(rules, rules.grants[0], scope, NOW))
    assert (limit.lifetime, limit.bound) == (seconds(expected), bound)


def test_the_tier_alone_bounds_an_audience_without_max_ttl() -> None:
    rules = policy(grants(grant(audience="https://mail.example", scopes="[send]")))
    assert policy_limits(rules, rules.grants[0], "send", NOW) == [
        Limit(timedelta(hours=1), LifetimeBound.RISK_TIER, "low")
    ]


@pytest.mark.parametrize(("rest", "whole"), [(59.999999, 59), (60, 60), (60.000001, 60), (-0.5, -1), (0, 0)])
def test_the_rest_of_an_svid_is_rounded_down_to_whole_seconds(rest: float, whole: int) -> None:
    assert svid_limit(NOW + seconds(rest), NOW) == Limit(seconds(whole), LifetimeBound.SVID)


def test_the_rest_of_a_grant_is_rounded_down_to_whole_seconds() -> None:
    rules = policy(grants(grant(expires="2026-06-01T12:01:00Z")))
    now = NOW + timedelta(microseconds=1)
    limit = shortest(policy_limits(rules, rules.grants[0], "read", now))
    assert limit == Limit(seconds(59), LifetimeBound.GRANT_EXPIRY, "g")


def test_what_the_caller_asks_is_rounded_down_to_whole_seconds() -> None:
    assert request_limit(seconds(90.9)) == Limit(seconds(90), LifetimeBound.REQUEST)


def test_of_equal_limits_the_first_in_the_order_of_the_bounds_counts() -> None:
    equal = [Limit(seconds(60), bound) for bound in reversed(LifetimeBound)]
    for bound in LifetimeBound:
        assert shortest(equal).bound is bound
        equal = [limit for limit in equal if limit.bound is not bound]


def test_a_shorter_limit_counts_whatever_its_bound() -> None:
    limits = [Limit(seconds(60), LifetimeBound.REQUEST), Limit(seconds(59), LifetimeBound.GRANT_EXPIRY)]
    assert shortest(limits) == limits[1]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_equal_limits_of_one_kind_the_lowest_rule_is_told(order: tuple[str, str]) -> None:
    limits = [Limit(timedelta(minutes=1), LifetimeBound.LIMIT, rule) for rule in order]
    assert shortest(limits).rule == "a"
