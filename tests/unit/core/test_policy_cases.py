# ruff: noqa: E501 - one line for each fault reads best
from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.policies import SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core import decide
from issuer.core.errors import Reason
from issuer.core.policy_cases import REASONS, CaseResult, coverage_of, read_cases, run_case
from issuer.core.policy_faults import PolicyInvalid

if TYPE_CHECKING:
    from issuer.core.policy import Policy

FACTS = """\
facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]
conditions: [{name: calm, when: facts.risk.score < 80}]
risk_tiers: {moderate: {requires: [calm]}}
"""
LIMIT = f"limits: [{{id: l, workloads: [{SETTLER!r}], audiences: ['*'], when: facts.risk.score > 50, max_ttl: 90s, requires: [calm]}}]"
RULES = policy(
    FACTS,
    grants(grant("g", "[read, write]", application="x", requires="[calm]")),
    prohibitions(prohibition(scopes="[refund]")),
    LIMIT,
)
BARE = policy(grants(grant()))


def case(
    request: str = "{audience: https://ledger.example, scopes: [read]}", expect: str = "{outcome: granted}", **more: str
) -> str:
    parts = {"name": "n", "at": "2026-06-01T12:00:00Z", "caller": SETTLER, **more, "request": request, "expect": expect}
    body = ", ".join(f"{key}: {value}" for key, value in parts.items())
    return f"version: 1\ncases:\n- {{{body}}}\n"


def fact(score: int) -> str:
    return f"[{{type: risk, subject: '{SETTLER}', values: {{score: {score}}}}}]"


def run(text: str, rules: Policy = RULES) -> CaseResult:
    (only,) = read_cases("a.test.yaml", text.encode(), rules.fact_types)
    return run_case(rules, only)


def test_a_case_that_comes_out_as_expected_has_no_differences() -> None:
    request = "{audience: https://ledger.example, scopes: [write], application: x, ttl: 30m, allow_partial: true, bind_certificate: true, grant_type: client_credentials, intent: {ticket: T}}"
    expect = "{outcome: granted, scopes: [write], refused_scopes: [], lifetime: 90s, rules: [g], application: x, bound: true, missing: [], lifetime_rule: l}"
    assert run(case(request, expect, facts=fact(60), svid_rest="10m")).differences == ()


def test_a_refusal_can_be_expected_with_its_reason() -> None:
    expect = (
        "{outcome: refused, reason: FACT_MISSING, refused_scopes: [read], missing: [facts.risk.score], lifetime: 0s}"
    )
    assert run(case(expect=expect)).differences == (("lifetime", "0s", ""),)


def test_each_difference_is_told() -> None:
    result = run(case(expect="{outcome: granted, scopes: [write], rules: [h]}", facts=fact(3)))
    assert result.differences == (("scopes", "[write]", "[read]"), ("rules", "[h]", "[g]"))
    assert run(case()).differences == (("outcome", "granted", "refused"),)


def test_coverage_counts_rules_and_both_sides_of_conditions() -> None:
    calm, wild = run(case(facts=fact(3))), run(case(facts=fact(99)))
    some = coverage_of(RULES, [calm])
    assert some.untried_rules == ("l", "p")
    assert some.untried_sides == (("calm", "false"), ("facts.risk.score > 50", "true"))
    assert (some.rules, some.sides, some.percent) == (3, 4, 42)
    every = "{audience: https://ledger.example, scopes: [refund]}"
    all_of_it = coverage_of(RULES, [calm, wild, run(case(every, facts=fact(99)))])
    assert all_of_it.percent == 100
    assert coverage_of(policy(), []).percent == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cases: [", "not valid YAML"),
        ("cases: []", "a.test.yaml:1:1: 'version:' is missing"),
        ("version: 1", "a.test.yaml:1:1: 'cases:' is missing"),
        ("version: 2", "a.test.yaml:1:10: 'version' must be 1"),
        ("version: [1]", "a.test.yaml:1:10: 'version' must be 1"),
        (case() + case().split("\n")[2], "a.test.yaml:4:3: the case 'n' is there already, at a.test.yaml:3:3"),
        (case(facts=f"[{fact(1)[1:-1]}, {fact(2)[1:-1]}]"), f"fact: risk of '{SETTLER}' is told twice"),
        (case(expect="{outcome: granted, rules: g}"), "expect: 'rules' must be a list"),
        (case(expect="{outcome: granted, application: [g]}"), "expect: 'application' must be a single value"),
        (case(expect="{outcome: granted, bound: yes}"), "expect: 'bound' must be one of true, false, not 'yes'"),
        (case(expect="{outcome: refused, reason: FACT_MISING}"), "did you mean 'FACT_MISSING'?"),
        ("cases: {}", "a.test.yaml:1:8: 'cases' must be a list"),
        ("case: []", "a.test.yaml:1:1: unknown key 'case'; did you mean 'cases'?"),
        ("cases: [x]", "a.test.yaml:1:9: case must be a mapping, not a single value"),
        ("cases: [{naem: x}]", "a.test.yaml:1:10: case: unknown key 'naem'; did you mean 'name'?"),
        (case(at="noon"), "case: 'at': write a day as in 2027-06-30"),
        (case(caller="nobody"), "case: 'caller': "),
        (case(svid_rest="5"), "case: 'svid_rest': '5' is not a duration"),
        (case(request="{audience: a, scopes: ['x y']}"), "request: scopes[0] has a character"),
        (case(request="{scopes: [read]}"), "request: 'audience' is missing"),
        (case(request="{audience: a, scopes: [r], intent: {task: x}}"), "intent: unknown key 'task'"),
        (case(request="{audience: a, scopes: [r], grant_type: x}"), "request: 'grant_type' must be one of"),
        (case(expect="{outcome: maybe}"), "expect: 'outcome' must be one of granted, refused, not 'maybe'"),
        (case(expect="{outcome: granted, lifetime: 5}"), "expect: 'lifetime': '5' is not a duration"),
        (case(facts="x"), "case: 'facts' must be a list"),
        (case(facts="[x]"), "a fact is a mapping"),
        (case(facts="[{type: posture, subject: x, values: {a: 1}}]"), "fact: type: policy declares no fact 'posture'"),
        ("cases: [{name: x, at: 2026-06-01, caller: spiffe://td/a, expect: {outcome: granted}}]", "case: 'request' is missing"),
        ("cases: [{name: x, at: 2026-06-01, caller: spiffe://td/a, request: {audience: a, scopes: [r]}}]", "case: 'expect' is missing: a case that expects nothing cannot fail"),
    ],
)  # fmt: skip
def test_a_fault_has_its_place(text: str, expected: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        read_cases("a.test.yaml", text.encode(), RULES.fact_types)
    assert any(expected in str(fault) for fault in caught.value.faults), str(caught.value)


def test_every_reason_that_decide_gives_can_be_expected() -> None:
    source = Path(decide.__file__).read_text(encoding="utf-8")
    given = {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", source)}
    assert set(REASONS) == given - {Reason.REVOKED, Reason.ORIGIN_EXPIRES_SOON}  # no policy gives those


def test_a_grant_is_covered_by_a_request_that_is_granted() -> None:
    asked = "{audience: https://ledger.example, scopes: [read, absent]}"
    refused = run(case(asked, "{outcome: refused}"), BARE)
    assert coverage_of(BARE, [refused]).untried_rules == ("g",)
    assert coverage_of(BARE, [refused, run(case(), BARE)]).untried_rules == ()


def test_the_audience_of_a_case_may_be_unknown() -> None:
    text = case(
        "{audience: https://nowhere.example, scopes: [read]}", "{outcome: refused, reason: AUDIENCE_NOT_ALLOWED}"
    )
    assert run(text, BARE).differences == ()
