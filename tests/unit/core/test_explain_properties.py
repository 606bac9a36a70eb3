"""An explanation agrees with the decision: what it reports of rules and scopes adds up to the answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
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

from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.errors import Reason
from issuer.core.explain import explain_decision
from issuer.core.facts import Fact, FactKey
from issuer.core.lifetime import shortest
from issuer.core.policy import RiskTier
from issuer.core.token_request import GrantType, Intent, TokenRequest

if TYPE_CHECKING:
    from issuer.core.caller import Caller
    from issuer.core.explanation import Explanation
    from issuer.core.facts import Facts
    from issuer.core.policy import Policy

HEAD = """\
environments: [{name: lab, workloads: ["spiffe://lab.example/**"]}, {name: shop, workloads: ["spiffe://prod.example/**"]}]
facts:
  - {name: risk, subject: caller, max_age: 1h, fields: {score: int}}
  - {name: owner, subject: application, max_age: 1h, fields: {ok: bool}}
conditions:
  - {name: calm, when: facts.risk.score < 80}
  - {name: owned, when: facts.owner.ok}
"""
SCOPES = ["read", "report", "write", "refund"]
WHEN = [
    *[None] * 4,
    "facts.risk.score < 50",
    "facts.risk.score >= 50 || 1 / 0 == 1",
    "facts.owner.ok",
    "!facts.owner.ok",
    "has(request.ttl) && request.intent.ticket == 'T'",
    "request.scopes.exists(s, s == 'read')",
    "now < now",
]
APPROVAL = "approval: {approvers: ['spiffe://prod.example/boss'], quorum: 1, valid_for: 15m}"


def optional(*values: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, None, *values])


def rule_fields(**more: st.SearchStrategy[str | None]) -> st.SearchStrategy[dict[str, str]]:
    """Return the fields that rules have in common, with those that are not left out."""
    fields = st.fixed_dictionaries(
        {
            "when": st.sampled_from([None if text is None else f'"{text}"' for text in WHEN]),
            "requires": optional("[calm]", "[owned]"),
            "mode": optional("audit"),
            **more,
        }
    )
    return fields.map(lambda drawn: {key: value for key, value in drawn.items() if value is not None})


some_scopes = st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True).map(lambda s: f"[{', '.join(s)}]")
some_scopes_or_all = st.none() | some_scopes
GRANTS = st.lists(
    rule_fields(
        scopes=some_scopes,
        application=optional("x", "y"),
        max_ttl=optional("15s", "3m"),
        expires=optional("2026-05-31", "2026-06-01T12:00:30Z"),
        environments=optional("[lab]", "[shop]"),
        grant_types=optional("[jit]", "[client_credentials, jit]"),
    ),
    max_size=4,
)
PROHIBITIONS = st.lists(rule_fields(scopes=some_scopes_or_all), max_size=2)
LIMITS = st.lists(rule_fields(scopes=some_scopes_or_all, max_ttl=st.just("40s"), when=st.just("'1 == 1'")), max_size=2)
TIERS = st.sampled_from(
    ["", "", "low: {requires: [calm]}", "moderate: {requires: [owned]}", f"critical: {{{APPROVAL}}}"]
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    sections = [HEAD, f"risk_tiers: {{{draw(TIERS)}}}"]
    if allowing := draw(GRANTS):
        sections.append(grants(*(grant(f"g{number}", **fields) for number, fields in enumerate(allowing))))
    if forbidding := draw(PROHIBITIONS):
        items = (prohibition(f"p{number}", **fields) for number, fields in enumerate(forbidding))
        sections.append(prohibitions(*items))
    if limiting := draw(LIMITS):
        items = (prohibition(f"l{number}", **fields) for number, fields in enumerate(limiting))
        sections.append("limits:\n" + "".join(items))
    own = draw(st.sampled_from(["", "    environment: shop\n", "    environment: lab\n"]))
    return policy(
        *sections, audiences=AUDIENCES.replace("    application: ledger\n", "    application: ledger\n" + own)
    )


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    known = [("risk", SETTLER, {"score": draw(st.sampled_from([3, 60, 99]))})]
    known += [("owner", application, {"ok": draw(st.booleans())}) for application in "xy"]
    told = [Fact(*each, "test", NOW, NOW + timedelta(hours=1)) for each in known if draw(st.integers(0, 3))]
    return {FactKey(fact.type, fact.subject): fact for fact in told}


@st.composite
def requests(draw: st.DrawFn) -> TokenRequest:
    asked = request(
        *draw(st.lists(st.sampled_from([*SCOPES, "read", "absent"]), min_size=1, max_size=3, unique=True)),
        ttl=draw(st.sampled_from([None, None, timedelta(seconds=5), timedelta(minutes=2)])),
        application=draw(st.sampled_from([None, None, "x", "y", "z"])),
        allow_partial=draw(st.booleans()),
        bind_certificate=draw(st.booleans()),
        audience=draw(st.sampled_from([LEDGER] * 6 + ["https://absent.example"])),
    )
    intent = draw(st.sampled_from([None, Intent(ticket="T")]))
    return replace(
        asked, intent=intent, grant_type=draw(st.sampled_from([GrantType.CLIENT_CREDENTIALS] * 3 + [GrantType.JIT]))
    )


CALLERS = st.builds(caller, svid_rest=st.sampled_from([timedelta(hours=2), timedelta(hours=2), timedelta(seconds=8)]))


def adds_up(rules: Policy, explanation: Explanation, scope: str) -> bool:
    """A reading of the reports of rules alone: whether they give the scope."""
    declared = rules.audiences[LEDGER].scopes.get(scope)
    if declared is None or declared.approval or rules.risk_tiers[declared.risk].approval:
        return False
    scopes_of = {
        **{rule.id: rule.scopes for rule in rules.grants},
        **{rule.id: rule.scopes for rule in rules.prohibitions},
        **{rule.id: rule.scopes for rule in rules.limits},
        **{
            tier.value: {name for name, of in rules.audiences[LEDGER].scopes.items() if of.risk is tier}
            for tier in RiskTier
        },
    }
    reports = [report for report in explanation.rules if not report.audit and report.applies]
    touching = [report for report in reports if scope in (scopes_of[report.id] or {scope})]
    return (
        any(report.kind == "grant" for report in touching)
        and not any(report.kind == "prohibition" for report in touching)
        and not any(report.refuses for report in touching)
    )


@settings(max_examples=600, deadline=None)
@given(policies(), CALLERS, requests(), facts())
def test_an_explanation_agrees_with_the_decision(
    rules: Policy, calling: Caller, asked: TokenRequest, known: Facts
) -> None:
    explanation = explain_decision(rules, calling, asked, known, NOW)
    answer = decide(rules, calling, asked, known, NOW)
    assert explanation.answer == answer
    assert [scope.available for scope in explanation.scopes] == [
        adds_up(rules, explanation, scope) for scope in asked.scopes
    ]
    assert all(scope.available is not bool(scope.why) for scope in explanation.scopes)
    available = [scope for scope in explanation.scopes if scope.available]
    enough = bool(available) if asked.allow_partial else len(available) == len(asked.scopes)
    if isinstance(answer, Grant):
        assert enough
        assert answer.scopes == tuple(scope.name for scope in available)
        assert answer.rule_ids == tuple(sorted({str(scope.grant) for scope in available}))
        first = shortest(term for scope in available for term in scope.terms)
        assert (first.lifetime, first.bound, first.rule) == (
            answer.lifetime,
            answer.lifetime_bound,
            answer.lifetime_rule,
        )
        assert answer.application == explanation.application
        assert bool(explanation.changes) <= bool(answer.refused_scopes)
    else:
        too_short = answer.reason in {Reason.SVID_EXPIRES_SOON, Reason.REQUEST_INVALID}
        assert enough is too_short
        assert too_short is (enough and min(scope.terms[0].lifetime for scope in available) < rules.min_ttl)
    if isinstance(answer, Denial) or answer.refused_scopes:
        assert explanation.changes


def test_the_random_policies_are_worth_trying() -> None:
    """Guards the property above against becoming empty."""
    seen: set[Reason | None] = set()

    def adds_a_reason(tried: tuple[Policy, Caller, TokenRequest, Facts]) -> bool:
        answer = decide(*tried, NOW)
        seen.add(answer.reason if isinstance(answer, Denial) else None)
        return len(seen) == len(REASONS)

    find(st.tuples(policies(), CALLERS, requests(), facts()), adds_a_reason, settings=WITHOUT_SHRINKING)


WITHOUT_SHRINKING = settings(max_examples=5000, phases=[Phase.generate], deadline=None)
REASONS = {
    None,
    Reason.APPLICATION_NOT_ALLOWED,
    Reason.APPLICATION_REQUIRED,
    Reason.APPROVAL_REQUIRED,
    Reason.AUDIENCE_NOT_ALLOWED,
    Reason.CONDITION_NOT_MET,
    Reason.FACT_MISSING,
    Reason.GRANT_EXPIRED,
    Reason.GRANT_TYPE_NOT_ALLOWED,
    Reason.REQUEST_INVALID,
    Reason.SCOPE_NOT_ALLOWED,
    Reason.SVID_EXPIRES_SOON,
}
