from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support.policies import LEDGER, NOW, SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core.candidates import find_candidates, is_in_force
from issuer.core.spiffe_id import SpiffeId

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
MIN_TTL = timedelta(seconds=10)
CALLER = SpiffeId.parse(SETTLER)


def test_finds_grants_and_prohibitions_of_the_caller_and_the_audience() -> None:
    rules = policy(
        grants(grant("mine"), grant("other", workload="spiffe://prod.example/other")),
        prohibitions(prohibition("here"), prohibition("all", audiences="['*']"), prohibition("o", "spiffe://o/x")),
    )
    found = find_candidates(rules, CALLER, LEDGER)
    assert [rule.id for rule in found.grants] == ["mine"]
    assert sorted(rule.id for rule in found.prohibitions) == ["all", "here"]


def test_an_unknown_audience_has_no_candidates_but_prohibitions_of_all_audiences() -> None:
    rules = policy(grants(grant("mine")), prohibitions(prohibition("all", audiences="['*']")))
    found = find_candidates(rules, CALLER, "https://nowhere.example")
    assert found.grants == ()
    assert [rule.id for rule in found.prohibitions] == ["all"]


BEGIN = NOW
END = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (BEGIN - MICROSECOND, False),
        (BEGIN, True),
        (BEGIN + MICROSECOND, True),
        (END - MIN_TTL - MICROSECOND, True),
        (END - MIN_TTL, True),
        (END - MIN_TTL + MICROSECOND, False),
        (END - MICROSECOND, False),
        (END, False),
        (END + MICROSECOND, False),
    ],
)
def test_a_grant_is_in_force_from_its_beginning_until_no_token_fits(now: datetime, *, expected: bool) -> None:
    rule = policy(grants(grant(not_before="2026-06-01T12:00:00Z", expires="2026-06-01T13:00:00Z"))).grants[0]
    assert is_in_force(rule, now, MIN_TTL) is expected


def test_a_grant_without_dates_is_always_in_force() -> None:
    rule = policy(grants(grant())).grants[0]
    assert is_in_force(rule, NOW - timedelta(days=10_000), MIN_TTL)
    assert is_in_force(rule, NOW + timedelta(days=10_000), MIN_TTL)
