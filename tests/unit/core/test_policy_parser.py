# ruff: noqa: E501 - the table of faults reads best with one row a line

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.policies import AUDIENCES, LEDGER, SETTLER, grant, grants, policy, prohibition, prohibitions

from issuer.core.policy import RiskTier, ScopeRule, TierRules
from issuer.core.policy_draft import DEFAULT_TIERS
from issuer.core.policy_faults import MAX_FAULTS, PolicyInvalid, Position
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.token_request import GrantType


def faults(*texts: str | bytes) -> list[str]:
    files = [
        PolicyFile(f"{number}.yaml" if number else "p.yaml", text.encode() if isinstance(text, str) else text)
        for number, text in enumerate(texts)
    ]
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(files)
    return [str(fault) for fault in caught.value.faults]


FULL_GRANT = """\
grants:
  - id: settlement-writes-ledger
    workloads: ["spiffe://prod.example/ns/payments/sa/settler", "spiffe://prod.example/ns/*/sa/settler"]
    application: payments
    audience: https://ledger.example
    scopes: [read, write]
    grant_types: [client_credentials, jit]
    max_ttl: 90s
    not_before: 2026-01-01T08:00:00+02:00
    expires: 2027-06-30
    owner: payments-team
    description: The settlement job posts its bookings.
prohibitions:
  - id: freeze
    workloads: ["spiffe://prod.example/**"]
    audiences: ["https://ledger.example", "https://mail.example"]
    scopes: [write, send]
    owner: security-team
    description: Closing of the books.
"""


class TestModel:
    def test_audiences_have_scopes_with_tier_and_lifetime(self) -> None:
        ledger = policy().audiences[LEDGER]
        assert (ledger.application, ledger.max_ttl) == ("ledger", timedelta(minutes=10))
        assert ledger.scopes["write"] == ScopeRule("write", RiskTier.HIGH, timedelta(minutes=2))
        assert ledger.scopes["read"] == ScopeRule("read", RiskTier.LOW, None)
        assert ledger.source == Position("policy.yaml", 3, 5)

    def test_grants_have_every_field(self) -> None:
        rule = policy(FULL_GRANT).grants[0]
        assert rule.id == "settlement-writes-ledger"
        assert [pattern.text for pattern in rule.workloads] == [SETTLER, "spiffe://prod.example/ns/*/sa/settler"]
        assert (rule.application, rule.audience, rule.scopes) == ("payments", LEDGER, frozenset({"read", "write"}))
        assert rule.grant_types == {GrantType.CLIENT_CREDENTIALS, GrantType.JIT}
        assert rule.max_ttl == timedelta(seconds=90)
        assert rule.not_before == datetime(2026, 1, 1, 6, tzinfo=UTC)
        assert rule.expires == datetime(2027, 7, 1, tzinfo=UTC)
        assert (rule.owner, rule.description) == ("payments-team", "The settlement job posts its bookings.")
        assert rule.source == Position("policy.yaml", 15, 5)

    def test_grants_need_few_fields(self) -> None:
        rule = policy(grants(grant())).grants[0]
        assert (rule.application, rule.max_ttl, rule.not_before, rule.expires) == (None, None, None, None)
        assert (rule.owner, rule.description) == (None, None)
        assert rule.grant_types == {GrantType.CLIENT_CREDENTIALS}

    def test_prohibitions_have_every_field(self) -> None:
        rule = policy(FULL_GRANT).prohibitions[0]
        assert rule.id == "freeze"
        assert [pattern.text for pattern in rule.workloads] == ["spiffe://prod.example/**"]
        assert (rule.audiences, rule.scopes) == ((LEDGER, "https://mail.example"), frozenset({"write", "send"}))
        assert (rule.owner, rule.description) == ("security-team", "Closing of the books.")
        assert rule.source == Position("policy.yaml", 27, 5)

    def test_prohibitions_of_all_audiences_may_name_any_declared_scope(self) -> None:
        rules = policy(prohibitions(prohibition(audiences="['*']", scopes="[send, write]"), prohibition("q")))
        assert (rules.prohibitions[0].audiences, rules.prohibitions[0].scopes) == (("*",), frozenset({"send", "write"}))
        assert rules.prohibitions[1].scopes is None

    def test_risk_tiers_have_defaults(self) -> None:
        assert policy().risk_tiers == {
            RiskTier.LOW: TierRules(timedelta(hours=1), binding_required=False),
            RiskTier.MODERATE: TierRules(timedelta(minutes=15), binding_required=False),
            RiskTier.HIGH: TierRules(timedelta(minutes=5), binding_required=True),
            RiskTier.CRITICAL: TierRules(timedelta(minutes=2), binding_required=True),
        }
        assert policy().min_ttl == timedelta(seconds=10)

    def test_risk_tiers_may_be_set_in_part(self) -> None:
        rules = policy(
            "min_ttl: 20s",
            "risk_tiers:",
            "  low: {max_ttl: 30m}",
            "  moderate: {proof_binding: required}",
            "  high: {proof_binding: optional, max_ttl: 1m, status: required}",
            "  critical: {}",
        )
        assert rules.min_ttl == timedelta(seconds=20)
        assert rules.risk_tiers == {
            RiskTier.LOW: TierRules(timedelta(minutes=30), binding_required=False),
            RiskTier.MODERATE: TierRules(timedelta(minutes=15), binding_required=True),
            RiskTier.HIGH: TierRules(timedelta(minutes=1), binding_required=False, status_required=True),
            RiskTier.CRITICAL: TierRules(timedelta(minutes=2), binding_required=True),
        }

    def test_empty_lists_of_rules_are_a_policy_that_grants_nothing(self) -> None:
        rules = parse_policy([PolicyFile("p", b"version: 1\naudiences: []\ngrants: []\nprohibitions: []\n")])
        assert (rules.audiences, rules.grants, rules.prohibitions) == ({}, (), ())

    def test_files_are_read_together_whatever_their_order(self) -> None:
        files = [PolicyFile("b", f"version: 1\n{FULL_GRANT}".encode()), PolicyFile("a", AUDIENCES.encode())]
        assert parse_policy(files).digest == parse_policy(files[::-1]).digest

    def test_its_repr_does_not_print_the_rules(self) -> None:
        assert "settlement" not in repr(policy(FULL_GRANT))


SCOPES = "scopes: [{name: read, risk: low}]"


def line(text: str) -> str:
    """Return a policy whose line 2 is ``text``."""
    return f"version: 1\n{text}"


def one_audience(text: str) -> str:
    return f"version: 1\naudiences:\n- {text}"


def one_grant(text: str) -> str:
    """Return a policy whose one grant begins at line 15, column 3."""
    return f"{AUDIENCES}grants:\n- {text}"


def changed(old: str, new: str) -> str:
    text = AUDIENCES + FULL_GRANT
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The file.
        ("grants: []", "p.yaml:1:1: 'version: 1' is missing"),
        ("version: 2", "p.yaml:1:10: 'version' must be 1, the only version of the language there is"),
        ("version: '1'", "p.yaml:1:10: 'version' must be 1, the only version of the language there is"),
        ("version: [1]", "p.yaml:1:10: 'version' must be 1, the only version of the language there is"),
        ("version: {a: 1}", "p.yaml:1:10: 'version' must be 1, the only version of the language there is"),
        (line("grant: []"), "p.yaml:2:1: unknown key 'grant'; did you mean 'grants'?"),
        (line("zzz: 1"), "p.yaml:2:1: unknown key 'zzz'"),
        (line("zzz: [1, 2]"), "p.yaml:2:1: unknown key 'zzz'"),
        (line("groups: {}"), "p.yaml:2:9: 'groups' must be a list"),
        (line("grants: {}"), "p.yaml:2:9: 'grants' must be a list"),
        (line("audiences: x"), "p.yaml:2:12: 'audiences' must be a list"),
        (line("prohibitions:"), "p.yaml:2:14: 'prohibitions' must be a list"),
        ("version: 1\nversion: 1", "p.yaml:2:1: 'version' is given twice; first at line 1"),
        (b"version: 1\n\xff", "p.yaml:2:1: the file is not UTF-8: byte 0xff"),
        # min_ttl and risk tiers.
        (line("min_ttl: 10"), "p.yaml:2:10: 'min_ttl': '10' is not a duration: write it as in '90s', '10m' or '1h30m'"),
        (line("min_ttl: [10s]"), "p.yaml:2:10: 'min_ttl' must be a single value, as in '10s'"),
        (line("min_ttl: 61s"), "p.yaml:2:10: 'min_ttl' is at most 1m"),
        (line("risk_tiers: []"), "p.yaml:2:13: 'risk_tiers' must be a mapping of tiers"),
        (line("risk_tiers: {hihg: {}}"), "p.yaml:2:14: a risk tier is one of low, moderate, high, critical, not 'hihg'; did you mean 'high'?"),
        (line("risk_tiers: {high: 5m}"), "p.yaml:2:20: risk tier 'high' must be a mapping, not a single value"),
        (line("risk_tiers: {high: {max_tll: 5m}}"), "p.yaml:2:21: risk tier 'high': unknown key 'max_tll'; did you mean 'max_ttl'?"),
        (line("risk_tiers: {high: {max_ttl: 5}}"), "p.yaml:2:30: risk tier 'high': 'max_ttl': '5' is not a duration: write it as in '90s', '10m' or '1h30m'"),
        (line("risk_tiers: {high: {proof_binding: requird}}"), "p.yaml:2:36: risk tier 'high': 'proof_binding' must be one of optional, required, not 'requird'; did you mean 'required'?"),
        (line("risk_tiers: {high: {status: requird}}"), "p.yaml:2:29: risk tier 'high': 'status' must be one of none, required, not 'requird'; did you mean 'required'?"),
        (one_audience(f"{{name: a, application: a, status: yes, {SCOPES}}}"), "p.yaml:3:37: audience: 'status' must be one of none, required, not 'yes'"),
        (line("risk_tiers: {high: {proof_binding: true}}"), "p.yaml:2:36: risk tier 'high': 'proof_binding' must be one of optional, required, not 'true'"),
        (line("risk_tiers: {low: {max_ttl: 9s}}"), "p.yaml:2:29: 9s is below 'min_ttl' (10s), the least a token lives"),
        (line("min_ttl: 3m"), "p.yaml:2:10: 'min_ttl' is at most 1m"),
        # Audiences.
        (one_audience("x"), "p.yaml:3:3: audience must be a mapping, not a single value"),
        (one_audience("[]"), "p.yaml:3:3: audience must be a mapping, not a list"),
        (one_audience(f"{{application: a, {SCOPES}}}"), "p.yaml:3:3: audience: 'name' is missing"),
        (one_audience(f"{{name: a, {SCOPES}}}"), "p.yaml:3:3: audience: 'application' is missing"),
        (one_audience("{name: a, application: a}"), "p.yaml:3:3: audience: 'scopes' must be a list of at least one scope"),
        (one_audience("{name: a, application: a, scopes: []}"), "p.yaml:3:37: audience: 'scopes' must be a list of at least one scope"),
        (one_audience("{name: a, application: a, scopes: read}"), "p.yaml:3:37: audience: 'scopes' must be a list of at least one scope"),
        (one_audience(f"{{name: , application: a, {SCOPES}}}"), "p.yaml:3:10: audience: 'name' has no value; leave it out, or write one"),
        (one_audience(f"{{name: '*', application: a, {SCOPES}}}"), "p.yaml:3:10: audience: 'name': '*' is no audience: prohibitions use it for all of them"),
        (one_audience(f"{{name: [a], application: a, {SCOPES}}}"), "p.yaml:3:10: audience: 'name' must be a single value, not a list"),
        (one_audience(f"{{name: a, application: {{}}, {SCOPES}}}"), "p.yaml:3:26: audience: 'application' must be a single value, not a mapping"),
        (one_audience(f"{{name: a, application: a, servers: [], {SCOPES}}}"), "p.yaml:3:38: audience: 'servers' is empty; empty never means all"),
        (one_audience(f"{{name: a, application: a, servers: [x], {SCOPES}}}"), "p.yaml:3:39: audience: 'servers': a workload begins with 'spiffe://', in lower case"),
        (one_audience("{name: a, application: a, scopes: [read]}"), "p.yaml:3:38: scope must be a mapping, not a single value"),
        (one_audience("{name: a, application: a, scopes: [{name: r}]}"), "p.yaml:3:38: scope: 'risk' is missing"),
        (one_audience("{name: a, application: a, scopes: [{risk: low}]}"), "p.yaml:3:38: scope: 'name' is missing"),
        (one_audience("{name: a, application: a, scopes: [{name: r s, risk: low}]}"), "p.yaml:3:45: scope: 'name': has a character that RFC 6749 section 3.3 does not allow in a scope"),
        (one_audience("{name: a, application: a, scopes: [{name: r, risk: lowe}]}"), "p.yaml:3:54: scope: 'risk' must be one of low, moderate, high, critical, not 'lowe'; did you mean 'low'?"),
        (one_audience("{name: a, application: a, scopes: [{name: r, risk: low, approval: []}]}"), "p.yaml:3:69: approval must be a mapping, not a list"),
        (one_audience("{name: a, application: a, scopes: [{name: r, risk: low}, {name: r, risk: low}]}"), "p.yaml:3:60: the scope 'r' is declared twice"),
        (changed("- name: https://mail.example", "- name: https://ledger.example"), "p.yaml:11:11: the audience 'https://ledger.example' is declared already, at p.yaml:3:5"),
        (changed("max_ttl: 10m", "max_ttl: 9s"), "p.yaml:5:14: 9s is below 'min_ttl' (10s), the least a token lives"),
        # Grants.
        (one_grant("x"), "p.yaml:15:3: grant must be a mapping, not a single value"),
        (AUDIENCES + FULL_GRANT + "    when: facts.risk.score >= 80\n", "p.yaml:33:11: undeclared reference to 'facts.risk.score'"),
        (changed("max_ttl: 90s", "when: request.scopes"), "p.yaml:21:11: a condition is of type bool, this one of type LIST<STRING>"),
        (changed("max_ttl: 90s", "legacy: []"), "p.yaml:21:13: legacy must be a mapping, not a list"),
        (changed("max_ttl: 90s", "mode: auditt"), "p.yaml:21:11: grant: 'mode' must be one of enforce, audit, not 'auditt'; did you mean 'audit'?"),
        (changed("max_ttl: 90s", "max_tl: 90s"), "p.yaml:21:5: grant: unknown key 'max_tl'; did you mean 'max_ttl'?"),
        (changed("max_ttl: 90s", "max_ttl: 90"), "p.yaml:21:14: grant: 'max_ttl': '90' is not a duration: write it as in '90s', '10m' or '1h30m'"),
        (changed("max_ttl: 90s", "max_ttl: 9s"), "p.yaml:21:14: 9s is below 'min_ttl' (10s), the least a token lives"),
        (changed("max_ttl: 90s", "max_ttl: 90s\n    max_ttl: 80s"), "p.yaml:22:5: 'max_ttl' is given twice; first at line 21"),
        (changed("id: freeze", "id: settlement-writes-ledger"), "p.yaml:27:9: the id 'settlement-writes-ledger' is taken by the rule at p.yaml:15:5"),
        (changed("id: freeze", "id: no spaces"), "p.yaml:27:9: prohibition: 'id': an id is 1 to 128 letters, digits, '.', '_', '-' and '/', first a letter or digit"),
        (changed('sa/settler", "spiffe', 'sa/set*", "spiffe'), "p.yaml:16:55: grant: 'workloads': '*' stands for one whole segment and cannot be part of 'set*'"),
        (changed('["spiffe://prod.example/**"]', "[spiffe://prod.example/**/x]"), "p.yaml:28:39: prohibition: 'workloads': '**' can only be the last segment"),
        (changed('["spiffe://prod.example/**"]', "spiffe://prod.example/x"), "p.yaml:28:16: prohibition: 'workloads' must be a list, not a single value"),
        (changed('["spiffe://prod.example/**"]', "[]"), "p.yaml:28:16: prohibition: 'workloads' is empty; empty never means all"),
        (changed('["spiffe://prod.example/**"]', "[{}]"), "p.yaml:28:17: prohibition: an entry of 'workloads' must be a single value, not a mapping"),
        (changed('["spiffe://prod.example/**"]', "[~]"), "p.yaml:28:17: prohibition: an entry of 'workloads' has no value; leave it out, or write one"),
        (changed("audience: https://ledger.example\n", "audience: https://ledgr.example\n"), "p.yaml:18:15: no audience 'https://ledgr.example' is declared; did you mean 'https://ledger.example'?"),
        (changed("    audience: https://ledger.example\n", ""), "p.yaml:15:5: grant: 'audience' is missing"),
        (changed("[read, write]", "[read, wirte]"), "p.yaml:19:20: the audience 'https://ledger.example' declares no scope 'wirte'; did you mean 'write'?"),
        (changed("[read, write]", "[read, send]"), "p.yaml:19:20: the audience 'https://ledger.example' declares no scope 'send'; did you mean 'refund'?"),
        (changed("[read, write]", "[read, read]"), "p.yaml:19:20: grant: 'scopes' names 'read' twice"),
        (changed("[read, write]", "[]"), "p.yaml:19:13: grant: 'scopes' is empty; empty never means all"),
        (changed("    scopes: [read, write]\n", ""), "p.yaml:15:5: grant: 'scopes' is missing"),
        (changed("client_credentials, jit", "client_credential"), "p.yaml:20:19: grant: 'grant_types' must be one of client_credentials, token_exchange, intent, jit, not 'client_credential'; did you mean 'client_credentials'?"),
        (changed("max_ttl: 90s", "window: 25h"), "p.yaml:21:13: grant: 'window' is at most 1d"),
        (changed("max_ttl: 90s", "window: 9s"), "p.yaml:21:13: 9s is below 'min_ttl' (10s), the least a token lives"),
        (changed("[client_credentials, jit]\n", "[client_credentials]\n    window: 2h\n"), "p.yaml:21:13: grant: 'window' is for grants of type 'jit': name it in 'grant_types'"),
        (changed("[client_credentials, jit]", "[]"), "p.yaml:20:18: grant: 'grant_types' is empty; empty never means all"),
        (changed("application: payments", "application: my payments"), "p.yaml:17:18: grant: 'application': must be letters, digits, '.', '_' and '-', first a letter or digit"),
        (changed("expires: 2027-06-30", "expires: 2027-02-30"), "p.yaml:23:14: grant: 'expires': day is out of range for month"),
        (changed("expires: 2027-06-30", "expires: soon"), "p.yaml:23:14: grant: 'expires': write a day as in 2027-06-30, or a moment with its zone as in 2027-06-30T12:00:00Z"),
        (changed("expires: 2027-06-30", "expires: 2026-01-01T06:00:00Z"), "p.yaml:23:14: grant: 'expires' is not after 'not_before': the grant would never apply"),
        (changed("expires: 2027-06-30", "expires:"), "p.yaml:23:13: grant: 'expires' has no value; leave it out, or write one"),
        # Prohibitions.
        (changed('https://mail.example"]', 'https://mial.example"]'), "p.yaml:29:43: no audience 'https://mial.example' is declared; did you mean 'https://mail.example'?"),
        (changed('"https://mail.example"]', '"*"]'), "p.yaml:29:17: prohibition: '*' names every audience: write it alone"),
        (changed("[write, send]", "[write, sent]"), "p.yaml:30:21: no audience of this prohibition declares the scope 'sent'; did you mean 'send'?"),
        (changed("[write, send]", "[]"), "p.yaml:30:13: prohibition: 'scopes' is empty; empty never means all"),
        (changed('    audiences: ["https://ledger.example", "https://mail.example"]\n    scopes: [write, send]\n', ""), "p.yaml:27:5: prohibition: 'audiences' is missing"),
    ],
)  # fmt: skip
def test_every_fault_has_its_place_and_remedy(text: str | bytes, expected: str) -> None:
    assert expected in faults(text)


@pytest.mark.parametrize(
    "text",
    [
        changed("max_ttl: 90s", "when: '1'"),
        changed("max_ttl: 90s", "max_ttl: 9s"),
        changed('https://mail.example"]', 'https://mial.example"]'),
        changed("[read, write]", "[read, wirte]"),
        changed("id: freeze", "id: settlement-writes-ledger"),
        changed("expires: 2027-06-30", "expires: 2026-01-01T06:00:00Z"),
        line("min_ttl: 61s"),
        line("zzz: [1, 2]"),
        one_audience("x"),
        one_grant("x"),
    ],
)
def test_one_mistake_is_one_fault(text: str) -> None:
    assert len(faults(text)) == 1


def test_the_largest_min_ttl_is_below_every_default_of_the_tiers() -> None:
    assert policy("min_ttl: 1m").min_ttl == timedelta(minutes=1) < min(tier.max_ttl for tier in DEFAULT_TIERS.values())


def test_a_lifetime_equal_to_min_ttl_is_possible() -> None:
    assert policy(grants(grant(max_ttl="10s"))).grants[0].max_ttl == timedelta(seconds=10)


def test_faults_of_all_files_are_told_together() -> None:
    assert faults("version: 2", "version: 1\n'a", b"\xff", "version: 1\ngrant: []") == [
        "1.yaml:2:3: not valid YAML: found unexpected end of stream while scanning a quoted scalar",
        "2.yaml:1:1: the file is not UTF-8: byte 0xff",
        "3.yaml:2:1: unknown key 'grant'; did you mean 'grants'?",
        "p.yaml:1:10: 'version' must be 1, the only version of the language there is",
    ]


def test_every_file_needs_its_version() -> None:
    assert faults("version: 1", "grants: []") == ["1.yaml:1:1: 'version: 1' is missing"]


def test_what_holds_for_the_whole_policy_is_set_once() -> None:
    text = "version: 1\nmin_ttl: 20s\nrisk_tiers: {low: {}}"
    assert faults(text, text) == [
        "1.yaml:2:10: 'min_ttl' is set already, at p.yaml:2:10",
        "1.yaml:3:14: the risk tier 'low' is set already, at p.yaml:3:14",
    ]


def test_the_number_of_faults_is_bounded_and_so_is_the_search_for_words() -> None:
    text = AUDIENCES + grants(*(grant(f"g{number}", audience="x" * 3000) for number in range(500)))
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy([PolicyFile("p", text.encode())])
    assert (len(caught.value.faults), caught.value.more) == (MAX_FAULTS, 950)
    assert all(len(str(fault)) < 300 for fault in caught.value.faults)


def test_a_grant_of_a_broken_audience_is_not_a_fault_of_its_own() -> None:
    assert len(faults(changed("risk: low}\n      - {name: report", "risk: lowest}\n      - {name: report"))) == 1
