from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
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
from issuer.core.evaluation import Evaluator
from issuer.core.explain import _Explainer, explain_decision
from issuer.core.facts import Fact, FactKey
from issuer.core.token_request import Intent, TokenRequest
from issuer.core.weighing import Inputs

if TYPE_CHECKING:
    from issuer.core.explanation import Explanation

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
            grant("applies", application="bank"),
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
        "grant g: calm (facts.risk.score < 80) would have to be true",
        "prohibition frozen: applies",
        "limit l: calm (facts.risk.score < 80) would have to be true",
        "risk tier low: calm (facts.risk.score < 80) would have to be true",
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
    loaded = policy(grants(grant()))
    inputs = Inputs(loaded, caller(), request(), NOW, Evaluator(loaded, caller(), request(), {}, NOW))
    assert _Explainer(inputs, {}).value("1 +", inputs.evaluator.context(None)) is None


def test_of_a_conjunction_what_is_false_is_named() -> None:
    text = "'request.scopes.size() == 1 && (caller.path == \"/x\" && (now < now || false))'"
    assert explained(grants(grant(when=text))).changes == (
        'grant g: caller.path == "/x" and now < now || false would have to be true',
    )


APPROVED = "risk_tiers: {low: {approval: {approvers: ['spiffe://prod.example/boss'], quorum: 1, valid_for: 15m}}}"


@pytest.mark.parametrize(
    ("sections", "asked", "changes"),
    [
        ([grants(grant(application="x"))], request(application="y"), (
            "nothing is granted for the application y, only for x",
            "grant g: for the application x",
        )),
        ([grants(grant())], request(application="y"), (
            "nothing is granted for the application y",
            "grant g: nothing is granted for the application y",
        )),
        ([grants(grant("a", application="x"), grant("b", application="y"))], request(), (
            "the request must name one of the applications x, y",
            "grant a: the request must name one of the applications x, y",
            "grant b: the request must name one of the applications x, y",
        )),
        ([grants(grant())], request("read", "wriet"), (
            "scope wriet: the audience has no such scope; did you mean 'write'?",
        )),
        ([grants(grant())], request("read", "write"), ("scope write: no grant for this caller gives it",)),
        ([grants(grant())], request(audience="https://leger.example"), (
            "scope read: the policy has no such audience; did you mean 'https://ledger.example'?",
        )),
        ([APPROVED, grants(grant())], request(), ("scope read: 1 of spiffe://prod.example/boss must approve",)),
        ([APPROVED.replace("valid_for", "human: true, valid_for"), grants(grant())], request(), (
            "scope read: 1 of spiffe://prod.example/boss must approve, each with proof of a person",
        )),
        ([grants(grant(mode="audit"))], request(), (
            "scope read: no grant for this caller gives it",
            "grant g: is in audit mode, and would apply",
        )),
        ([grants(grant(), grant("a", application="x", mode="audit"))], request("write"), (
            "scope write: no grant for this caller gives it",
            "grant g: gives read",
        )),
        ([grants(grant())], request(ttl=timedelta(seconds=9)), (
            "the token would live for 9s only, which request sets",
        )),
    ],
)  # fmt: skip
def test_says_what_would_have_to_change(sections: list[str], asked: TokenRequest, changes: tuple[str, ...]) -> None:
    assert explained(*sections, asked=asked).changes == changes


def test_an_application_that_only_a_rule_in_audit_mode_names_does_not_have_to_be_chosen() -> None:
    explanation = explained(grants(grant("a", application="x"), grant("b", application="y", mode="audit")))
    assert isinstance(explanation.answer, Grant)
    assert explanation.application == "x"
    assert why(explanation)["a"] == (True, "applies")
    assert why(explanation)["b"] == (False, "the request must name one of the applications x, y")


def test_each_scope_shows_its_grant_and_every_term_of_its_lifetime() -> None:
    limit = f"limits: [{{id: l, workloads: [{SETTLER!r}], audiences: ['*'], when: now == now, max_ttl: 3m}}]"
    both = grants(grant("g", "[read, write]", max_ttl="4m", expires="2026-06-30"), grant("h", max_ttl="1m"))
    read, write, report = explained(
        both, limit, asked=request("read", "write", "report", ttl=timedelta(minutes=7))
    ).scopes
    assert (read.available, read.grant, read.why) == (True, "g", ())
    assert [(term.bound.value, term.rule, int(term.lifetime.total_seconds())) for term in read.terms] == [
        ("limit", "l", 180),
        ("grant", "g", 240),
        ("request", "", 420),
        ("audience", "https://ledger.example", 600),
        ("risk_tier", "low", 3600),
        ("svid", "", 7200),
        ("grant_expiry", "g", 2548800),
    ]
    assert write.terms[0].rule == "write"
    assert (report.available, report.why) == (False, ("no grant for this caller gives it",))


def test_each_scope_shows_every_rule_that_keeps_it() -> None:
    wild = "facts.risk.score > 5"
    explanation = explained(
        "risk_tiers: {low: {requires: [calm]}}",
        grants(grant(when="caller.path == ''")),
        prohibitions(prohibition("p"), prohibition("writes", scopes="[write]")),
        f"limits: [{{id: l, workloads: [{SETTLER!r}], audiences: ['*'], when: {wild}, requires: [calm]}}]",
        score=90,
    )
    (read,) = explanation.scopes
    assert read.why == ("prohibition p", "what gives it does not apply: g", "limit l", "risk tier low")


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
