"""What is remembered is what would be decided: tried on random policies, callers, requests and courses of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from support.policies import AUDIENCES, LEDGER, NOW, SETTLER, caller, grant, grants, prohibition, prohibitions, request

from issuer.core import remembered_decisions as module
from issuer.core.approvals import Approvals, Approved
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.facts import Fact, FactKey
from issuer.core.instants import microseconds
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.remembered_decisions import RememberedDecisions, steady_until
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocations import NOTHING_REVOKED, Revocations
from issuer.core.token_request import GrantType, TokenRequest

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.policy import Policy

HEAD = AUDIENCES + (
    "facts: [{name: risk, subject: caller, max_age: 5m, fields: {score: int}}]\n"
    "environments: [{name: prod, workloads: ['spiffe://prod.example/**']}]\n"
)
SCOPES = ("read", "report", "write", "refund")
SECOND = timedelta(seconds=1)

scopes = st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True)
workloads = st.sampled_from([SETTLER, SETTLER, "spiffe://prod.example/**", "spiffe://prod.example/ns/other"])


def rarely(*values: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None] * 6 + list(values))


ANY_GRANT: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": scopes,
        "application": st.sampled_from([None, None, "x"]),
        "max_ttl": st.sampled_from([None, "15s", "1m", "30m"]),
        "when": rarely("facts.risk.score < 50", "request.audience != ''", "now > timestamp('2026-06-01T12:10:00Z')"),
        "expires": rarely("'2026-06-01T12:08:00Z'", "'2026-06-01T12:30:00Z'"),
        "not_before": rarely("'2026-06-01T12:05:00Z'"),
        "legacy": rarely("{reason: old, owner: team, expires: 2027-01-01, max_ttl: 4h}"),
        "mode": rarely("audit"),
    }
)
GRANTS = ANY_GRANT.filter(lambda fields: not (fields["legacy"] and {"write", "refund"} & set(fields["scopes"])))
PROHIBITIONS = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": st.none() | scopes,
        "when": rarely("facts.risk.score > 5"),
        "mode": rarely("audit"),
    }
)
LIMITS = st.fixed_dictionaries(
    {
        "workload": workloads,
        "scopes": st.none() | scopes,
        "max_ttl": st.sampled_from(["10s", "45s", "20m"]),
        "when": st.just("facts.risk.score > 5"),
    }
)
REQUESTS = st.builds(
    TokenRequest,
    audience=st.sampled_from([LEDGER, LEDGER, LEDGER, "https://unknown.example"]),
    scopes=scopes.map(tuple),
    ttl=st.sampled_from([None, timedelta(seconds=5), timedelta(seconds=20.5), timedelta(minutes=20)]),
    application=st.sampled_from([None, "x", "z"]),
    bind_certificate=st.booleans(),
    allow_partial=st.booleans(),
    grant_type=st.sampled_from([GrantType.CLIENT_CREDENTIALS] * 3 + [GrantType.JIT]),
)
RESTS = (5, 130, 605, 902, 1803, 7200)
CALLERS = st.sampled_from(RESTS).map(lambda seconds: caller(SETTLER, timedelta(seconds=seconds)))
MOMENTS = st.sampled_from([-5.0, 0.0, 0.5, 1.0, 100.0, 301.0, 470.0, 601.5, 902.0, 1203.0, 1802.0, 3599.0, 7199.9])
RISK = FactKey("risk", f"spiffe:{SETTLER}")


def section(name: str, number: int, fields: dict[str, Any]) -> str:
    text = {key: value for key, value in fields.items() if value is not None}
    if "scopes" in text:
        text["scopes"] = f"[{', '.join(text['scopes'])}]"
    if "when" in text:
        text["when"] = f'"{text["when"]}"'
    return (grant if name == "g" else prohibition)(f"{name}{number}", **text)


def build(granting: list[dict[str, Any]], forbidding: list[dict[str, Any]], limiting: list[dict[str, Any]]) -> Policy:
    parts = [HEAD, grants(*(section("g", number, each) for number, each in enumerate(granting)))]
    if forbidding:
        parts.append(prohibitions(*(section("p", number, each) for number, each in enumerate(forbidding))))
    if limiting:
        parts.append("limits:\n" + "".join(section("l", number, each) for number, each in enumerate(limiting)))
    return parse_policy([PolicyFile("policy.yaml", "".join(parts).encode())], legacy_ceiling=timedelta(hours=4))


POLICIES = st.builds(
    build,
    st.lists(GRANTS, min_size=1, max_size=4),
    st.lists(PROHIBITIONS, max_size=1),
    st.just([]) | st.just([]) | st.lists(LIMITS, max_size=1),
)


def stop(selector: Selector) -> Revocations:
    before = microseconds(NOW) - 10_000_000
    revocation = Revocation("r1", selector, before, "spiffe://prod.example/operator", "a leak", stops_issuance=True)
    return Revocations([revocation], key_id="k1")


REVOKED = st.sampled_from(
    [NOTHING_REVOKED] * 3 + [stop(Selector(rule="g0")), stop(Selector(audience="https://other.example"))]
)
APPROVED = Approvals([Approved("a1", 1, "digest", "", ("read",), None, microseconds(NOW) + 10**9, 3)])
STEPS = st.lists(
    st.tuples(MOMENTS, CALLERS, REQUESTS, REVOKED, st.sampled_from([Approvals()] * 4 + [APPROVED])),
    min_size=2,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(POLICIES, POLICIES, STEPS, st.booleans())
def test_it_decides_as_if_it_remembered_nothing(
    first: Policy,
    second: Policy,
    steps: list[tuple[float, Caller, TokenRequest, Revocations, Approvals]],
    told: bool,  # noqa: FBT001
) -> None:
    """Each request is asked at each moment, so that what was remembered at one is asked for at the next."""
    decisions = RememberedDecisions()
    facts = {RISK: Fact("risk", RISK.subject, {"score": 7}, "test", NOW, NOW + timedelta(days=1))} if told else {}
    moments = [NOW + timedelta(seconds=moment) for moment, *_ in steps]
    for position, (_, calling, asked, revoked, approved) in enumerate(steps):
        policy = second if position > len(steps) * 2 // 3 else first
        for now in moments:
            expected = decide(policy, calling, asked, facts, now, revocations=revoked, approvals=approved)
            found = decisions.decide(policy, calling, asked, facts, now, revocations=revoked, approvals=approved)
            assert found == expected


@settings(max_examples=600, deadline=None)
@given(POLICIES, CALLERS, REQUESTS, MOMENTS, st.floats(0, 1))
def test_until_the_moment_that_is_told_nothing_changes(
    policy: Policy, calling: Caller, asked: TokenRequest, begin: float, part: float
) -> None:
    until = steady_until(policy, calling, asked)
    now = NOW + timedelta(seconds=begin)
    if until is None or until < now:
        return
    at_first = decide(policy, calling, asked, {}, now)
    for later in (now + (until - now) * part, until):
        assert decide(policy, calling, asked, {}, later) == at_first


def test_the_random_policies_have_decisions_that_can_be_remembered() -> None:
    """Else the tests above would hold for want of cases."""

    def is_used(case: tuple[Policy, Caller, TokenRequest]) -> bool:
        policy, calling, asked = case
        until = steady_until(policy, calling, asked)
        return until is not None and until > NOW and isinstance(decide(policy, calling, asked, {}, NOW), Grant)

    find(
        st.tuples(POLICIES, CALLERS, REQUESTS),
        is_used,
        settings=settings(phases=[Phase.generate], deadline=None, max_examples=10_000),
    )


PLAIN = build([{"workload": SETTLER, "scopes": ["read"]}], [], [])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The moments at which something was decided anew."""
    decided: list[datetime] = []

    def counting(*arguments: Any, **more: Any) -> Grant | Denial:
        decided.append(arguments[4])
        return decide(*arguments, **more)

    monkeypatch.setattr(module, "decide", counting)
    return decided


def test_an_equal_request_of_an_equal_caller_is_decided_once(counted: list[datetime]) -> None:
    decisions = RememberedDecisions()
    found = [decisions.decide(PLAIN, caller(), request(), {}, NOW + SECOND * number) for number in range(5)]
    assert len(set(map(id, found))) == 1
    assert counted == [NOW]


@pytest.mark.parametrize(
    "other",
    [
        {"caller": caller(svid_rest=timedelta(hours=3))},
        {"caller": replace(caller(), certificate_sha256=b"\1" * 32)},
        {"request": request("read", "report", allow_partial=True)},
        {"policy": build([{"workload": SETTLER, "scopes": ["read"]}], [], [])},
        {"now": NOW - SECOND},
        {"facts": {RISK: Fact("risk", RISK.subject, {"score": 7}, "test", NOW, NOW + SECOND)}},
        {"approvals": APPROVED},
        {"revocations": stop(Selector(everything=True))},
    ],
)
def test_what_differs_is_decided_anew(counted: list[datetime], other: dict[str, Any]) -> None:
    decisions = RememberedDecisions()
    first: dict[str, Any] = {"policy": PLAIN, "caller": caller(), "request": request(), "facts": {}, "now": NOW}
    decisions.decide(**first)
    decisions.decide(**first | other)
    assert len(counted) == 2


def test_a_revocation_that_misses_leaves_it_remembered(counted: list[datetime]) -> None:
    decisions = RememberedDecisions()
    missing = stop(Selector(rule="another"))
    granted = [decisions.decide(PLAIN, caller(), request(), {}, NOW, revocations=missing) for _ in range(2)]
    assert (isinstance(granted[1], Grant), len(counted)) == (True, 1)


def test_a_denial_is_decided_each_time(counted: list[datetime]) -> None:
    decisions = RememberedDecisions()
    for _ in range(2):
        assert isinstance(decisions.decide(PLAIN, caller(), request("write"), {}, NOW), Denial)
    assert len(counted) == 2


def test_near_the_end_of_the_svid_it_is_decided_each_time(counted: list[datetime]) -> None:
    decisions, ending = RememberedDecisions(), caller(svid_rest=timedelta(minutes=9))
    lifetimes = [decisions.decide(PLAIN, ending, request(), {}, NOW + SECOND * number) for number in range(3)]
    assert [each.lifetime // SECOND for each in lifetimes if isinstance(each, Grant)] == [540, 539, 538]
    assert len(counted) == 3


def test_no_more_than_the_bound_is_remembered(monkeypatch: pytest.MonkeyPatch, counted: list[datetime]) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    decisions = RememberedDecisions()
    asked = [request(ttl=SECOND * (60 + number)) for number in range(3)]
    for each in [*asked, asked[2], asked[0]]:
        decisions.decide(PLAIN, caller(), each, {}, NOW)
    assert len(counted) == 4, "the third made room, and the first was forgotten"
