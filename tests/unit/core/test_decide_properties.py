"""What holds for every policy: tried on random ones, against a second and slower reading of the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING

from hypothesis import find, given, settings
from hypothesis import strategies as st
from support.policies import LEDGER, NOW, caller, grant, grants, policy, prohibition, prohibitions, request

from issuer.core.access import list_access
from issuer.core.decide import decide
from issuer.core.decision import Grant

if TYPE_CHECKING:
    from random import Random

    from issuer.core.caller import Caller
    from issuer.core.policy import GrantRule, Policy, ProhibitionRule
    from issuer.core.token_request import TokenRequest

MAIL = "https://mail.example"
SCOPES = {LEDGER: ["read", "report", "write", "refund"], MAIL: ["send"]}
WORKLOADS = [
    "spiffe://td/a/b",
    "spiffe://td/a/c",
    "spiffe://td/a/*",
    "spiffe://td/*/b",
    "spiffe://td/**",
    "spiffe://o/**",
]
CALLERS = ["spiffe://td/a/b", "spiffe://td/a/c", "spiffe://td/b", "spiffe://o/a/b"]
APPLICATIONS = [None, "x", "y"]
DATES = ["2026-05-31", "2026-06-01T12:00:09Z", "2026-06-01T12:00:30Z", "2026-12-31", None]
TTLS = [None, "10s", "45s", "3m", "30m"]


@st.composite
def grant_texts(draw: st.DrawFn) -> dict[str, str]:
    audience = draw(st.sampled_from([LEDGER, LEDGER, MAIL]))
    scopes = draw(st.lists(st.sampled_from(SCOPES[audience]), min_size=1, max_size=3, unique=True))
    optional = {
        "application": draw(st.sampled_from(APPLICATIONS)),
        "max_ttl": draw(st.sampled_from(TTLS)),
        "expires": draw(st.sampled_from(DATES)),
        "grant_types": draw(st.sampled_from([None, None, "[client_credentials]", "[jit]"])),
    }
    fields = {key: value for key, value in optional.items() if value is not None}
    return {
        "audience": audience,
        "scopes": f"[{', '.join(scopes)}]",
        "workload": draw(st.sampled_from(WORKLOADS)),
        **fields,
    }


@st.composite
def prohibition_texts(draw: st.DrawFn) -> dict[str, str]:
    audience = draw(st.sampled_from([LEDGER, MAIL, "*"]))
    scope = draw(st.sampled_from(SCOPES.get(audience, ["read", "send"])))
    fields = {"audiences": f"['{audience}']", "workload": draw(st.sampled_from(WORKLOADS))}
    return {**fields, "scopes": f"[{scope}]"} if draw(st.booleans()) else fields


def build(allowing: list[dict[str, str]], forbidding: list[dict[str, str]]) -> Policy:
    sections = []
    if allowing:
        sections.append(grants(*(grant(f"g{number}", **fields) for number, fields in enumerate(allowing))))
    if forbidding:
        sections.append(
            prohibitions(*(prohibition(f"p{number}", **fields) for number, fields in enumerate(forbidding)))
        )
    return policy(*sections)


ALLOWING = st.lists(grant_texts(), max_size=8)
FORBIDDING = st.lists(prohibition_texts(), max_size=2)
CALLING = st.builds(caller, st.sampled_from(CALLERS), st.sampled_from([timedelta(hours=2), timedelta(seconds=20)]))


@st.composite
def requests(draw: st.DrawFn) -> TokenRequest:
    audience = draw(st.sampled_from([LEDGER, LEDGER, MAIL]))
    return request(
        *draw(st.lists(st.sampled_from(SCOPES[audience]), min_size=1, max_size=3, unique=True)),
        audience=audience,
        ttl=draw(st.sampled_from([None, timedelta(seconds=10), timedelta(seconds=45), timedelta(minutes=20)])),
        application=draw(st.sampled_from(APPLICATIONS)),
        allow_partial=draw(st.booleans()),
    )


@settings(max_examples=400)
@given(ALLOWING, grant_texts(), FORBIDDING, CALLING, requests())
def test_adding_a_grant_never_denies_what_was_allowed(
    allowing: list[dict[str, str]],
    added: dict[str, str],
    forbidding: list[dict[str, str]],
    calling: Caller,
    asked: TokenRequest,
) -> None:
    """Unless it names another application, for then a request that names none has to choose."""
    before = decide(build(allowing, forbidding), calling, asked, {}, NOW)
    applications = {fields.get("application") for fields in [*allowing, added]} - {None}
    if not isinstance(before, Grant) or (asked.application is None and len(applications) > 1):
        return
    after = decide(build([*allowing, added], forbidding), calling, asked, {}, NOW)
    assert isinstance(after, Grant)
    assert set(before.scopes) <= set(after.scopes)
    if before.scopes == after.scopes:
        assert after.lifetime >= before.lifetime


@given(ALLOWING, FORBIDDING, prohibition_texts(), CALLING, requests())
def test_adding_a_prohibition_never_allows(
    allowing: list[dict[str, str]],
    forbidding: list[dict[str, str]],
    added: dict[str, str],
    calling: Caller,
    asked: TokenRequest,
) -> None:
    before = decide(build(allowing, forbidding), calling, asked, {}, NOW)
    after = decide(build(allowing, [*forbidding, added]), calling, asked, {}, NOW)
    if isinstance(after, Grant):
        assert isinstance(before, Grant)
        assert set(after.scopes) <= set(before.scopes)
        assert after.application == before.application


@settings(max_examples=400)
@given(ALLOWING, FORBIDDING, CALLING, requests())
def test_no_token_outlives_any_of_its_terms(
    allowing: list[dict[str, str]], forbidding: list[dict[str, str]], calling: Caller, asked: TokenRequest
) -> None:
    rules = build(allowing, forbidding)
    outcome = decide(rules, calling, asked, {}, NOW)
    if not isinstance(outcome, Grant):
        return
    used = [rule for rule in rules.grants if rule.id in outcome.rule_ids]
    audience = rules.audiences[asked.audience]
    declared = [audience.scopes[scope] for scope in outcome.scopes]
    terms = [
        asked.ttl,
        audience.max_ttl,
        calling.not_after - NOW,
        *(scope.max_ttl for scope in declared),
        *(rules.risk_tiers[scope.risk].max_ttl for scope in declared),
        *(rule.max_ttl for rule in used),
        *(rule.expires - NOW for rule in used if rule.expires),
    ]
    assert all(term is None or outcome.lifetime <= term for term in terms)
    assert outcome.lifetime >= rules.min_ttl
    assert outcome.lifetime % timedelta(seconds=1) == timedelta(0)


def speaks_of(rule: GrantRule | ProhibitionRule, calling: Caller) -> bool:
    return any(pattern.matches(calling.spiffe_id) for pattern in rule.workloads)


def scope_is_granted(rules: Policy, calling: Caller, audience: str, scope: str, application: str | None) -> bool:
    """A second reading of rules 2 to 6 for one scope, by scanning every rule."""
    for rule in rules.prohibitions:
        if (
            speaks_of(rule, calling)
            and {"*", audience} & set(rule.audiences)
            and (not rule.scopes or scope in rule.scopes)
        ):
            return False
    applying = [
        rule
        for rule in rules.grants
        if speaks_of(rule, calling)
        and rule.audience == audience
        and "client_credentials" in rule.grant_types
        and (rule.expires is None or NOW + rules.min_ttl <= rule.expires)
    ]
    named = {rule.application for rule in applying} - {None}
    if application is None:
        if len(named) > 1:
            return False
        application = next(iter(named), None)
    elif application not in named:
        return False
    return any(scope in rule.scopes and rule.application in (None, application) for rule in applying)


@given(ALLOWING, FORBIDDING, CALLING, requests())
def test_decides_as_a_scan_of_every_rule_does(
    allowing: list[dict[str, str]], forbidding: list[dict[str, str]], calling: Caller, asked: TokenRequest
) -> None:
    rules = build(allowing, forbidding)
    outcome = decide(rules, calling, asked, {}, NOW)
    given_scopes = [
        scope for scope in asked.scopes if scope_is_granted(rules, calling, asked.audience, scope, asked.application)
    ]
    enough = bool(given_scopes) if asked.allow_partial else len(given_scopes) == len(asked.scopes)
    assert isinstance(outcome, Grant) is enough
    if isinstance(outcome, Grant):
        assert list(outcome.scopes) == given_scopes
        assert outcome.refused_scopes == tuple(scope for scope in asked.scopes if scope not in given_scopes)


@given(ALLOWING, FORBIDDING, st.sampled_from(CALLERS))
def test_what_is_listed_is_granted_and_what_is_not_listed_is_denied(
    allowing: list[dict[str, str]], forbidding: list[dict[str, str]], spiffe_id: str
) -> None:
    rules, calling = build(allowing, forbidding), caller(spiffe_id)
    listed = {
        (each.audience, each.application, scope.name): scope
        for each in list_access(rules, calling, {}, NOW)
        for scope in each.scopes
    }
    for audience, application in product(SCOPES, APPLICATIONS):
        for name in SCOPES[audience]:
            outcome = decide(rules, calling, request(name, audience=audience, application=application), {}, NOW)
            scope = listed.get((audience, application, name))
            if scope is not None:
                assert isinstance(outcome, Grant)
                assert (outcome.lifetime, outcome.bind_certificate) == (scope.max_ttl, scope.binding_required)
                assert scope.expire_time is None or scope.expire_time >= NOW + outcome.lifetime
            elif isinstance(outcome, Grant):
                assert application is None
                assert (audience, outcome.application, name) in listed, "the only application there was"


@given(ALLOWING, FORBIDDING, CALLING, requests(), st.randoms())
def test_the_order_of_rules_changes_nothing(
    allowing: list[dict[str, str]],
    forbidding: list[dict[str, str]],
    calling: Caller,
    asked: TokenRequest,
    random: Random,
) -> None:
    rules = build(allowing, forbidding)
    shuffled = list(rules.grants)
    random.shuffle(shuffled)
    assert decide(replace_grants(rules, shuffled), calling, asked, {}, NOW) == decide(rules, calling, asked, {}, NOW)


def replace_grants(rules: Policy, shuffled: list[GrantRule]) -> Policy:
    return replace(rules, grants=tuple(shuffled), prohibitions=tuple(reversed(rules.prohibitions)))


def test_the_random_policies_are_worth_trying() -> None:
    """Guards the properties above against becoming empty: tokens of two scopes by two grants are among the tried."""

    def by_two_grants(tried: tuple[list[dict[str, str]], Caller, TokenRequest]) -> bool:
        allowing, calling, asked = tried
        outcome = decide(build(allowing, []), calling, asked, {}, NOW)
        return isinstance(outcome, Grant) and len(outcome.rule_ids) > 1

    assert find(
        st.tuples(ALLOWING, CALLING, requests()), by_two_grants, settings=settings(max_examples=2000, deadline=None)
    )
