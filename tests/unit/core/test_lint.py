from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, NOW, SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core.lint import Finding, Severity, lint
from issuer.core.policy_parser import PolicyFile, parse_policy

if TYPE_CHECKING:
    from issuer.core.policy import Policy

FACTS = "facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]\n"
NOISE = {"no-owner", "unused-scope"}


def findings(loaded: Policy, *, fed: frozenset[str] | None = None, proves_people: bool | None = None) -> list[Finding]:
    return [
        finding for finding in lint(loaded, NOW, fed=fed, proves_people=proves_people) if finding.check not in NOISE
    ]


def checks(*sections: str) -> list[str]:
    return [finding.check for finding in findings(policy(*sections))]


def test_a_good_policy_has_no_findings() -> None:
    ledger = grant("a", "[read, report, write, refund]", owner="team")
    mail = grant("b", "[send]", audience="https://mail.example", owner="team")
    assert lint(policy(grants(ledger, mail)), NOW) == []


def test_a_grant_that_changes_no_answer_is_told_with_the_one_that_gives_the_same() -> None:
    (finding,) = findings(policy(grants(grant("a", "[read, write]"), grant("b"))))
    assert (finding.check, finding.severity) == ("shadowed", Severity.WARNING)
    assert finding.message == "b changes no answer: a gives all of it"


def test_who_answers_for_a_grant_and_scopes_that_nobody_may_use() -> None:
    found = lint(policy(grants(grant())), NOW)
    unowned = [finding.message for finding in found if finding.check == "no-owner"]
    assert unowned == ["g has no owner whom to ask about it"]
    assert [finding.message for finding in found if finding.check == "unused-scope"] == [
        f"no grant gives {scope} of {audience}"
        for scope, audience in [
            ("refund", "https://ledger.example"),
            ("report", "https://ledger.example"),
            ("write", "https://ledger.example"),
            ("send", "https://mail.example"),
        ]
    ]


@pytest.mark.parametrize(
    ("expires", "check"),
    [
        ("2026-06-01T12:00:10Z", ["expired"]),
        ("2026-06-01T12:00:11Z", ["expiring"]),
        ("2026-07-01T12:00:00Z", ["expiring"]),
        ("2026-07-01T12:00:01Z", []),
    ],
)
def test_what_ends_is_told_in_time(expires: str, check: list[str]) -> None:
    assert checks(grants(grant(expires=expires))) == check


def test_an_exception_is_always_told() -> None:
    legacy = "{reason: cannot renew, owner: team, expires: 2027-01-01, max_ttl: 4h}"
    text = AUDIENCES + grants(grant(legacy=legacy))
    loaded = parse_policy([PolicyFile("p.yaml", text.encode())], legacy_ceiling=timedelta(hours=4))
    (finding,) = findings(loaded)
    assert (finding.check, finding.severity) == ("legacy", Severity.INFO)
    assert finding.message == "g is an exception (team: cannot renew; up to 4h)"


def test_a_grant_to_a_whole_trust_domain_is_told() -> None:
    assert checks(grants(grant(workload="spiffe://prod.example/**"))) == ["whole-domain"]
    assert checks(grants(grant(workload="spiffe://prod.example/ns/**"))) == []
    assert checks(grants(grant(workload="spiffe://prod.example/*"))) == []


@pytest.mark.parametrize(
    ("more", "unreachable"),
    [
        ({}, True),
        ({"workload": "spiffe://prod.example/**"}, True),
        ({"audiences": "['*']"}, True),
        ({"workload": "spiffe://prod.example/ns/**"}, False),
        ({"audiences": "['https://mail.example']"}, False),
        ({"scopes": "[read]"}, False),
        ({"when": "facts.risk.score > 80"}, False),
        ({"mode": "audit"}, False),
    ],
)
def test_a_grant_that_a_prohibition_covers_gives_nothing(more: dict[str, str], *, unreachable: bool) -> None:
    found = checks(FACTS, grants(grant(when="facts.risk.score < 5")), prohibitions(prohibition(**more)))
    assert ("unreachable" in found) is unreachable


@pytest.mark.parametrize(
    ("when", "constant"),
    [("1 > 2", "false"), ("'true' == 'true'", "true"), ("1 / 0 == 1", "unknown"), ("now > timestamp(0)", None)],
)
def test_a_condition_that_is_always_the_same_is_told(when: str, constant: str | None) -> None:
    found = [finding for finding in findings(policy(grants(grant(when=f'"{when}"')))) if "constant" in finding.check]
    assert [finding.message for finding in found] == (
        [f"g: the condition {when} is always {constant}"] if constant else []
    )


@pytest.mark.parametrize(
    ("when", "claimed"),
    [
        ("request.intent.operation == 'settle'", True),
        ("request.intent.operation == 'settle' && facts.risk.score < 5", False),
        ("request.intent.operation == caller.path", False),
        ("request.audience == 'x'", False),
    ],
)
def test_a_grant_that_a_claim_alone_opens_is_told(when: str, *, claimed: bool) -> None:
    assert ("claimed-only" in checks(FACTS, grants(grant(when=f'"{when}"')))) is claimed


def test_what_nothing_uses_is_told() -> None:
    unused = """\
groups: [{name: workers, workloads: ["spiffe://prod.example/a"]}]
conditions: [{name: calm, when: facts.other.score < 80}]
environments: [{name: lab, workloads: ["spiffe://lab.example/**"]}]
facts:
  - {name: risk, subject: caller, max_age: 1h, fields: {score: int}}
  - {name: other, subject: caller, max_age: 1h, fields: {score: int}}
"""
    expected = ["unused-group", "unused-condition", "unused-environment", "unused-fact", "unused-fact"]
    assert checks(unused, grants(grant())) == expected
    used = f"""\
risk_tiers: {{high: {{requires: [calm]}}}}
limits: [{{id: l, groups: [workers], audiences: ["*"], when: facts.risk.score > 1, requires: [calm]}}]
prohibitions: [{{id: p, workloads: [{SETTLER!r}], audiences: ["*"], when: caller.path == "/x", mode: audit}}]
"""
    assert checks(unused, used, grants(grant(environments="[lab]"))) == ["audit-mode"]


def test_facts_that_nobody_feeds_are_told_where_that_is_known() -> None:
    loaded = policy(FACTS, grants(grant(when="facts.risk.score < 5")))
    assert [finding.check for finding in findings(loaded, fed=frozenset())] == ["not-fed"]
    assert findings(loaded, fed=frozenset({"risk"})) == []
    assert findings(loaded) == []


def test_an_environment_of_an_audience_is_used() -> None:
    audiences = AUDIENCES.replace("application: ledger\n", "application: ledger\n    environment: lab\n")
    lab = 'environments: [{name: lab, workloads: ["spiffe://lab.example/**"]}]'
    assert findings(policy(lab, grants(grant()), audiences=audiences)) == []


class TestJustInTime:
    APPROVED = "approval: {approvers: ['spiffe://people.example/*'], valid_for: 15m}"

    def test_access_that_is_had_without_a_window_too(self) -> None:
        jit = grant("jit", "[read, refund]", grant_types="[jit]", when="now > timestamp('2026-01-01T00:00:00Z')")
        (finding,) = findings(policy(grants(grant("always"), jit)))
        assert (finding.check, finding.severity) == ("standing-access", Severity.WARNING)
        assert finding.message == "jit gives for a while what always gives always"
        assert checks(grants(grant("always", mode="audit"), jit)) == ["audit-mode"]
        assert checks(grants(grant("always", "[write]"), jit)) == []
        both = grant("both", grant_types="[jit, client_credentials]", when="now > timestamp('2026-01-01T00:00:00Z')")
        assert checks(grants(both)) == ["standing-access"]

    def test_a_reason_that_nobody_checks(self) -> None:
        (finding,) = findings(policy(grants(grant(scopes="[refund]", grant_types="[jit]"))))
        assert (finding.check, finding.severity) == ("unchecked-access", Severity.INFO)
        audiences = AUDIENCES.replace("risk: critical}", f"risk: critical, {self.APPROVED}}}")
        approved = policy(grants(grant(scopes="[refund]", grant_types="[jit]")), audiences=audiences)
        assert findings(approved) == []


def test_persons_whom_nobody_vouches_for_are_told_where_that_is_known() -> None:
    tier = "risk_tiers: {low: {approval: {approvers: ['spiffe://people.example/*'], valid_for: 1h, human: true}}}"
    loaded = policy(tier, grants(grant()))
    told = findings(loaded, proves_people=False)
    assert {finding.check for finding in told} == {"evidence"}
    assert {finding.severity for finding in told} == {Severity.ERROR}
    assert findings(loaded, proves_people=True) == findings(loaded) == []
    assert findings(policy(tier.replace(", human: true", ""), grants(grant())), proves_people=False) == []
