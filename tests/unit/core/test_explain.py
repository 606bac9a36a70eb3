from __future__ import annotations

from dataclasses import replace

from support.facts import RISK
from support.policies import (
    AUDIENCES,
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

from issuer.core.condition import Truth
from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.explain import Explanation, _Explainer, explain_decision
from issuer.core.facts import Fact, FactKey
from issuer.core.token_request import Intent, TokenRequest

FACTS = """\
environments: [{name: lab, workloads: ["spiffe://lab.example/**"]}]
facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]
conditions: [{name: calm, when: facts.risk.score < 80}]
"""


def explained(
    *sections: str, asked: TokenRequest | None = None, audiences: str = AUDIENCES, **scores: int
) -> Explanation:
    loaded = policy(FACTS, *sections, audiences=audiences)
    facts: dict[FactKey, Fact] = {
        FactKey("risk", SETTLER): Fact("risk", SETTLER, {"score": score}, "test", NOW, NOW + RISK.max_age)
        for score in scores.values()
    }
    asked = asked or request()
    explanation = explain_decision(loaded, caller(), asked, facts, NOW)
    assert explanation.answer == decide(loaded, caller(), asked, facts, NOW)
    return explanation


def why(explanation: Explanation) -> dict[str, tuple[bool, str]]:
    return {rule.id: (rule.applies, rule.why) for rule in explanation.rules}


def test_each_candidate_says_why() -> None:
    explanation = explained(
        grants(
            grant("applies"),
            grant("ended", expires="2026-01-01"),
            grant("exchange", grant_types="[token_exchange]"),
            grant("lab", environments="[lab]"),
            grant("other", "[report]"),
            grant("shop", application="shop"),
            grant("wild", when="facts.risk.score > 90"),
            grant("dark", when="request.intent.ticket == 'x'"),
            grant("audited", mode="audit"),
        ),
        score=3,
        asked=request(application="bank"),
    )
    assert why(explanation) == {
        "applies": (True, "applies"),
        "audited": (True, "applies"),
        "dark": (False, "a condition is unknown, which does not grant"),
        "ended": (False, "outside of its dates"),
        "exchange": (False, "for token_exchange, not for client_credentials"),
        "lab": (False, "for callers of the environment lab"),
        "other": (False, "gives report"),
        "shop": (False, "for the application shop"),
        "wild": (False, "a condition is false"),
    }
    assert [rule.id for rule in explanation.rules if rule.audit] == ["audited"]


def test_an_audience_of_another_environment_is_told() -> None:
    elsewhere = AUDIENCES.replace("application: ledger\n", "application: ledger\n    environment: lab\n")
    assert why(explained(grants(grant()), audiences=elsewhere)) == {"g": (False, "for callers of the environment lab")}


def test_what_takes_away_says_why_and_what_would_change_it() -> None:
    what = f"id: l, workloads: [{SETTLER!r}], audiences: ['*'], when: facts.risk.score > 5"
    limit = f"limits: [{{{what}, max_ttl: 1m, requires: [calm]}}]"
    rules = (
        "risk_tiers: {low: {requires: [calm]}}",
        grants(grant(requires="[calm]")),
        prohibitions(
            prohibition("frozen", when="facts.risk.score >= 80"),
            prohibition("writes", scopes="[write]"),
        ),
        limit,
    )
    blind = explained(*rules)
    assert why(blind) == {
        "frozen": (True, "unknown, and so it applies"),
        "g": (False, "a condition is unknown, which does not grant"),
        "l": (True, "unknown, and so it applies"),
        "low": (True, "its conditions do not hold: its scopes are refused"),
        "writes": (False, "other scopes"),
    }
    assert blind.changes == (
        "grant g: tell facts.risk.score",
        "prohibition frozen: tell facts.risk.score",
        "limit l: tell facts.risk.score",
        "risk tier low: tell facts.risk.score",
    )
    wild = explained(*rules, score=99)
    assert why(wild)["frozen"] == (True, "applies")
    assert wild.changes == (
        "grant g: calm would have to be true",
        "grant g: a condition is false",
        "prohibition frozen: applies",
        "limit l: applies",
        "risk tier low: calm would have to be true",
    )
    calm = explained(*rules, score=3)
    assert isinstance(calm.answer, Grant)
    assert why(calm)["frozen"] == (False, "a condition is false")
    assert why(calm)["low"] == (False, "its conditions hold")
    assert calm.changes == ()


def test_a_condition_shows_its_values_and_its_parts() -> None:
    text = "facts.risk.score + 1 < 80 && request.intent.operation == 'settle' && 1 / 0 == request.scopes.size()"
    asked = replace(request(), intent=Intent(operation="settle"))
    (rule,) = explained(grants(grant(when=f'"{text}"')), asked=asked, score=3).rules
    (condition,) = rule.conditions
    assert condition.truth is Truth.UNKNOWN
    assert condition.missing == ()
    assert dict(condition.values) == {
        "facts.risk.score": 3,
        "request.intent.operation": "settle",
        "request.scopes": ["read"],
    }
    parts = dict(condition.parts)
    assert parts["facts.risk.score + 1"] == 4
    assert parts["facts.risk.score + 1 < 80"] is True
    assert parts["1 / 0 == request.scopes.size()"] is None


def test_a_part_that_means_nothing_alone_is_shown_without_a_value() -> None:
    explainer = _Explainer(policy(grants(grant())), caller(), request(), {}, NOW)
    assert explainer.part("1 +", explainer.evaluator.context(None)) == ("1 +", None)


def test_a_caller_without_any_grant_sees_what_is_near() -> None:
    rules = grants(
        grant("near", workload="spiffe://prod.example/ns/payments/sa/settled"),
        grant("far", workload="spiffe://far.example/x"),
        grant("mail", "[send]", audience="https://mail.example"),
    )
    explanation = explained(rules)
    assert explanation.rules == ()
    assert [grant_id for _, grant_id in explanation.nearest] == ["near", "far"]
    assert explained(rules, asked=request(audience="https://unknown.example")).nearest == ()
