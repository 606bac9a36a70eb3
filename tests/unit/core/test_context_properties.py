"""What holds for every policy with conditions, facts, limits, exceptions and rules in audit mode, and every request."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.policies import AUDIENCES, LEDGER, NOW, SETTLER, caller, grant, grants, prohibition, prohibitions

from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.explain import explain_decision
from issuer.core.facts import Fact, FactKey
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.record import record_decision
from issuer.core.replay import differing_fields, recorded
from issuer.core.token_request import Intent, TokenRequest

if TYPE_CHECKING:
    from issuer.core.caller import Caller
    from issuer.core.policy import Policy

HEAD = AUDIENCES + (
    "risk_tiers: {high: {requires: [calm]}, moderate: {proof_binding: required}}\n"
    "facts:\n"
    "  - {name: risk, subject: caller, max_age: 5m, fields: {score: int}}\n"
    "  - {name: owner, subject: application, max_age: 5m, fields: {ok: bool}}\n"
    "  - {name: change, subject: ticket, max_age: 1d, fields: {approved: bool}}\n"
    "conditions: [{name: calm, when: facts.risk.score < 80}]\n"
)
SCOPES = ("read", "report", "write")
CONDITIONS = (
    "facts.risk.score < 50",
    "has(facts.owner.ok)",
    "!has(facts.owner.ok)",
    "has(facts.change.approved) && facts.change.approved",
    "request.intent.ticket == 'CHG-1'",
    "facts.risk.score >= 0 || facts.owner.ok",
)
CASE = settings(max_examples=400, deadline=None)

scopes = st.lists(st.sampled_from(SCOPES), min_size=1, unique=True)
workloads = st.sampled_from([SETTLER, "spiffe://prod.example/**", "spiffe://prod.example/ns/other"])


def optional(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.none() | values


def item(kind: str, **fields: object) -> str:
    listed = {"scopes": fields.pop("scopes", None), "workload": fields.pop("workload")}
    more = {name: str(value) for name, value in fields.items() if value is not None}
    if listed["scopes"]:
        more["scopes"] = f"[{', '.join(listed['scopes'])}]"  # type: ignore[arg-type]
    if "when" in more:
        more["when"] = f'"{more["when"]}"'
    make = grant if kind == "grant" else prohibition
    return make(more.pop("id"), workload=str(listed["workload"]), **more)


LEGACY = "{reason: old, owner: team, expires: 2027-01-01, max_ttl: 4h}"
ANY_GRANT: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": scopes,
        "application": optional(st.sampled_from(["x", "y"])),
        "when": optional(st.sampled_from(CONDITIONS)),
        "max_ttl": optional(st.sampled_from(["15s", "1m", "30m"])),
        "legacy": optional(st.just(LEGACY)),
        "expires": optional(st.sampled_from(["2026-01-01", "'2026-06-01T12:00:30Z'"])),
        "mode": optional(st.just("audit")),
    }
)
GRANTS = ANY_GRANT.filter(lambda fields: not (fields["legacy"] and "write" in fields["scopes"]))
PROHIBITIONS = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": optional(scopes),  # type: ignore[arg-type]
        "when": optional(st.sampled_from(CONDITIONS)),
        "mode": optional(st.just("audit")),
    }
)
LIMITS = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": optional(scopes),  # type: ignore[arg-type]
        "when": st.sampled_from(CONDITIONS),
        "max_ttl": st.sampled_from(["10s", "45s"]),
    }
)
REQUESTS = st.builds(
    TokenRequest,
    audience=st.just(LEDGER),
    scopes=scopes.map(tuple),
    ttl=st.none() | st.sampled_from([timedelta(seconds=5), timedelta(seconds=20), timedelta(hours=1)]),
    application=st.sampled_from([None, "x", "z"]),
    bind_certificate=st.booleans(),
    allow_partial=st.booleans(),
    intent=st.none() | st.just(Intent(ticket="CHG-1")),
)
CALLERS = st.sampled_from([5, 25, 7200]).map(lambda seconds: caller(SETTLER, timedelta(seconds=seconds)))


def told(kind: str, subject: str, age: int, **values: bool | int) -> Fact:
    seen = NOW - timedelta(seconds=age)
    return Fact(kind, subject, values, "test", seen, seen + timedelta(days=1), caller=SETTLER, audience=LEDGER)


FACTS = st.lists(
    st.one_of(
        st.builds(
            lambda age, score: told("risk", SETTLER, age, score=score),
            st.sampled_from([0, 400]),
            st.sampled_from([3, 60, 90]),
        ),
        st.builds(lambda ok: told("owner", "x", 0, ok=ok), st.booleans()),
        st.just(told("change", "CHG-1", 0, approved=True)),
        st.just(replace(told("change", "CHG-1", 0, approved=True), caller="spiffe://prod.example/other")),
    ),
    max_size=4,
).map(lambda facts: {fact.key: fact for fact in facts})


Rules = tuple[list[dict[str, object]], list[dict[str, object]], list[dict[str, object]]]
RULES: st.SearchStrategy[Rules] = st.tuples(
    st.lists(GRANTS, max_size=4), st.lists(PROHIBITIONS, max_size=2), st.lists(LIMITS, max_size=2)
)


def read(found: Rules) -> Policy:
    some, against, limits = found
    text = HEAD
    if some:
        text += grants(*(item("grant", id=f"g{number}", **each) for number, each in enumerate(some)))
    if against:
        text += prohibitions(*(item("not", id=f"p{number}", **each) for number, each in enumerate(against)))
    if limits:
        rows = (item("not", id=f"l{number}", **each) for number, each in enumerate(limits))
        text += "limits:\n" + "".join(rows)
    return parse_policy([PolicyFile("policy.yaml", text.encode())], legacy_ceiling=timedelta(hours=4))


@CASE
@given(RULES, GRANTS, CALLERS, REQUESTS, FACTS)
def test_adding_a_grant_never_denies(
    found: Rules, more: dict[str, object], who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]
) -> None:
    # A grant that names an application says on whose behalf a request without one acts, or that it has to say so.
    assume(more["application"] is None or asked.application is not None)
    before = decide(read(found), who, asked, facts, NOW)
    after = decide(read(([*found[0], more], found[1], found[2])), who, asked, facts, NOW)
    if isinstance(before, Grant):
        assert isinstance(after, Grant), after
        assert set(after.scopes) >= set(before.scopes)


@CASE
@given(RULES, PROHIBITIONS, CALLERS, REQUESTS, FACTS)
def test_adding_a_prohibition_never_allows(
    found: Rules, more: dict[str, object], who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]
) -> None:
    before = decide(read(found), who, asked, facts, NOW)
    after = decide(read((found[0], [*found[1], more], found[2])), who, asked, facts, NOW)
    if isinstance(after, Grant):
        assert isinstance(before, Grant), before
        assert set(after.scopes) <= set(before.scopes)


@CASE
@given(RULES, LIMITS, CALLERS, REQUESTS, FACTS)
def test_adding_a_limit_never_allows_and_never_lengthens(
    found: Rules, more: dict[str, object], who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]
) -> None:
    before = decide(read(found), who, asked, facts, NOW)
    after = decide(read((found[0], found[1], [*found[2], more])), who, asked, facts, NOW)
    if isinstance(after, Grant):
        assert isinstance(before, Grant), before
        if set(after.scopes) == set(before.scopes):
            assert after.lifetime <= before.lifetime


@CASE
@given(RULES, CALLERS, REQUESTS, FACTS)
def test_no_token_outlives_an_input(found: Rules, who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]) -> None:
    loaded = read(found)
    answer = decide(loaded, who, asked, facts, NOW)
    if isinstance(answer, Denial):
        return
    audience = loaded.audiences[LEDGER]
    inputs = [asked.ttl, audience.max_ttl]
    inputs += [audience.scopes[scope].max_ttl for scope in answer.scopes]
    inputs += [loaded.risk_tiers[audience.scopes[scope].risk].max_ttl for scope in answer.scopes]
    assert loaded.min_ttl <= answer.lifetime <= min(limit for limit in inputs if limit is not None)
    given_by = [rule for rule in loaded.grants if rule.id in answer.rule_ids]
    assert all(rule.ends is None or NOW + answer.lifetime <= rule.ends for rule in given_by)
    if answer.lifetime > who.not_after - NOW:
        assert answer.legacy
        assert not answer.bind_certificate
        assert all(rule.legacy for rule in given_by)


@CASE
@given(RULES, CALLERS, REQUESTS, FACTS)
def test_an_explanation_tells_what_was_decided(
    found: Rules, who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]
) -> None:
    loaded = read(found)
    answer = decide(loaded, who, asked, facts, NOW)
    explained = explain_decision(loaded, who, asked, facts, NOW)
    assert explained.answer == answer
    if isinstance(answer, Grant) and asked.allow_partial:
        assert tuple(scope.name for scope in explained.scopes if scope.available) == answer.scopes


@CASE
@given(RULES, CALLERS, REQUESTS, FACTS)
def test_what_was_recorded_is_decided_again_as_it_was(
    found: Rules, who: Caller, asked: TokenRequest, facts: dict[FactKey, Fact]
) -> None:
    policy = read(found)
    record = record_decision(
        decide(policy, who, asked, facts, NOW),
        decision_id="0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55",
        caller=who,
        peer="",
        request=asked,
        facts=facts,
        now=NOW,
    )
    inputs = recorded(record)
    assert (inputs.caller, inputs.request, inputs.facts, inputs.now) == (who, asked, facts, NOW)
    assert differing_fields(record, inputs, policy) == ()
