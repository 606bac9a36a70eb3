# ruff: noqa: E501 - one line for each fault reads best
"""What rules refer to, who owns which folder, approvals and exceptions: read from files, with every fault at its place."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from support.policies import AUDIENCES, SETTLER, grant, grants

from issuer.core.facts import FieldType, SubjectKind
from issuer.core.policy import Approval, LimitRule, Mode, Policy, RiskTier
from issuer.core.policy_faults import MAX_FAULTS, PolicyInvalid
from issuer.core.policy_parser import PolicyFile, parse_policy

ALL = (
    AUDIENCES
    + """\
environments:
  - {name: production, workloads: ["spiffe://prod.example/**"]}
groups:
  - {name: workers, owner: team, description: Those who work., workloads: ["spiffe://prod.example/a", "spiffe://prod.example/b"]}
facts:
  - name: risk
    subject: caller
    max_age: 5m
    description: How likely it is compromised.
    fields: {score: int, level: string, tags: list(string)}
conditions:
  - {name: calm, when: facts.risk.score < 80, owner: team, description: Nothing is wrong.}
folders:
  - {path: teams/mail, audiences: ["https://mail.example"]}
risk_tiers:
  high: {requires: [calm]}
  critical: {approval: {approvers: ["spiffe://prod.example/user/*"], quorum: 2, valid_for: 15m, human: true}}
grants:
  - id: g
    groups: [workers]
    workloads: ["spiffe://prod.example/b", "spiffe://prod.example/c"]
    environments: [production]
    audience: https://ledger.example
    scopes: [read]
    requires: [calm]
    when: |
      request.ttl < duration("5m") &&
        has(facts.risk.level)
    mode: audit
prohibitions:
  - {id: p, groups: [workers], audiences: ["*"], requires: [calm], when: "facts.risk.level == 'x'"}
limits:
  - {id: l, groups: [workers], audiences: ["*"], when: facts.risk.score > 50, max_ttl: 60s, requires: [calm]}
"""
)


def load(text: str, name: str = "p.yaml", *, ceiling: timedelta | None = None, **others: str) -> Policy:
    files = [PolicyFile(name, text.encode()), *(PolicyFile(path, more.encode()) for path, more in others.items())]
    return parse_policy(files, legacy_ceiling=ceiling)


def faults(*files: PolicyFile, ceiling: timedelta | None = None) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(files, legacy_ceiling=ceiling)
    return [str(fault) for fault in caught.value.faults]


def fault(text: str, *, ceiling: timedelta | None = None) -> str:
    (only,) = faults(PolicyFile("p.yaml", text.encode()), ceiling=ceiling)
    return only


def test_reads_the_whole_language() -> None:
    policy = load(ALL)
    (rule,) = policy.grants
    assert [pattern.text for pattern in rule.workloads] == [f"spiffe://prod.example/{name}" for name in "bca"]
    assert (rule.groups, rule.mode) == (("workers",), Mode.AUDIT)
    assert rule.environments == frozenset({"production"})
    assert [condition.name for condition in rule.conditions] == ["calm", None]
    assert rule.conditions[1].needs == {"request.ttl"}
    (prohibition,), (limit,) = policy.prohibitions, policy.limits
    assert len(prohibition.conditions) == 2
    assert [pattern.text for pattern in prohibition.workloads] == ["spiffe://prod.example/a", "spiffe://prod.example/b"]
    assert isinstance(limit, LimitRule)
    assert [condition.text for condition in limit.conditions] == ["facts.risk.score > 50"]
    assert [condition.name for condition in limit.requires] == ["calm"]
    assert limit.indexed_audiences == ("*",)
    assert policy.risk_tiers[RiskTier.HIGH].requires == (policy.named_conditions["calm"],)
    approval = policy.risk_tiers[RiskTier.CRITICAL].approval
    assert isinstance(approval, Approval)
    assert (approval.quorum, approval.valid_for, approval.human) == (2, timedelta(minutes=15), True)
    risk = policy.fact_types["risk"]
    assert (risk.subject, risk.max_age) == (SubjectKind.CALLER, timedelta(minutes=5))
    assert risk.fields == {"score": FieldType.INT, "level": FieldType.STRING, "tags": FieldType.STRINGS}
    assert policy.groups["workers"].owner == "team"
    assert policy.folders[0].audiences == {"https://mail.example"}
    assert [each.name for each in policy.environments] == ["production"]


def section(text: str) -> str:
    return f"{AUDIENCES}\n{text}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (section("environments: [{name: a}]"), "p.yaml:15:16: environment: 'workloads' is missing"),
        (section("environments:\n- {name: a, workloads: ['spiffe://a/**']}\n- {name: a, workloads: ['spiffe://b/**']}"), "p.yaml:17:10: the environment 'a' is declared already, at p.yaml:16:3"),
        (section("groups: [{name: a b, workloads: ['spiffe://a/b']}]"), "p.yaml:15:17: group: 'name': an id is 1 to 128 letters, digits, '.', '_', '-' and '/', first a letter or digit"),
        (section("conditions: [{name: a}]"), "p.yaml:15:14: condition: 'when' is missing"),
        (section("conditions: [{name: a, when: now}]"), "p.yaml:15:30: a condition is of type bool, this one of type TIMESTAMP"),
        (section("conditions:\n- name: a\n  when: 'facts.x.y'"), "p.yaml:17:10: undeclared reference to 'facts.x.y'"),
        (section("conditions:\n- name: a\n  when: |\n    true &&\n      facts.x.y"), "p.yaml:19:7: undeclared reference to 'facts.x.y'"),
        (section("conditions:\n- name: a\n  when: >\n    true &&\n    facts.x.y"), "p.yaml:17:9: undeclared reference to 'facts.x.y'"),
        (section('conditions:\n- name: a\n  when: "true &&\\n facts.x.y"'), "p.yaml:17:9: undeclared reference to 'facts.x.y'"),
        (section("conditions:\n- {name: a, when: 'true'}\n- {name: a, when: 'true'}"), "p.yaml:17:10: the condition 'a' is declared already, at p.yaml:16:3"),
        (section("groups:\n- {name: a, workloads: ['spiffe://a/b']}\n- {name: a, workloads: ['spiffe://a/b']}"), "p.yaml:17:10: the group 'a' is declared already, at p.yaml:16:3"),
        (section("groups: [{name: a, workloads: ['spiffe://a/b'], groups: [a]}]"), "p.yaml:15:49: group: unknown key 'groups'"),
        (section("conditions:\n- name: a\n  when: |\n\n    facts.x.y"), "p.yaml:19:5: undeclared reference to 'facts.x.y'"),
        (section("conditions:\n- name: a\n  when: |"), "p.yaml:18:1: a condition is empty; leave it out, or write one"),
        (section("conditions:\n- name: a\n  when: ''"), "p.yaml:17:10: a condition is empty; leave it out, or write one"),
        (section("facts: [x]"), "p.yaml:15:9: fact must be a mapping, not a single value"),
        (section("facts: [{name: Risk, subject: caller, max_age: 5m, fields: {a: int}}]"), "p.yaml:15:16: fact: 'name': a name in conditions is 1 to 64 of a-z, 0-9 and '_', first a letter, and no word of CEL"),
        (section("facts: [{name: in, subject: caller, max_age: 5m, fields: {a: int}}]"), "p.yaml:15:16: fact: 'name': a name in conditions is 1 to 64 of a-z, 0-9 and '_', first a letter, and no word of CEL"),
        (section("facts: [{name: a, subject: me, max_age: 5m, fields: {a: int}}]"), "p.yaml:15:28: fact: 'subject' must be one of caller, trust_domain, environment, audience, application, workflow, ticket, transaction, not 'me'"),
        (section("facts: [{name: a, subject: caller, max_age: 32d, fields: {a: int}}]"), "p.yaml:15:45: fact: 'max_age': a fact counts for at most 31d"),
        (section("facts: [{name: a, subject: caller, max_age: 5m}]"), "p.yaml:15:9: fact: 'fields' must be a mapping of at least one field to its type"),
        (section("facts: [{name: a, subject: caller, max_age: 5m, fields: {}}]"), "p.yaml:15:57: fact: 'fields' must be a mapping of at least one field to its type"),
        (section("facts: [{name: a, subject: caller, max_age: 5m, fields: {a: []}}]"), "p.yaml:15:61: fact: the type of a field is one of bool, int, double, string, timestamp, duration, list(string)"),
        (section("facts: [{name: a, subject: caller, max_age: 5m, fields: {a: number}}]"), "p.yaml:15:61: fact: 'a' must be one of bool, int, double, string, timestamp, duration, list(string), not 'number'"),
        (section("facts: [{name: a, subject: caller, max_age: 5m, fields: {A: int}}]"), "p.yaml:15:58: fact: a field: a name in conditions is 1 to 64 of a-z, 0-9 and '_', first a letter, and no word of CEL"),
        (section("folders: [{path: /a, audiences: ['https://mail.example']}]"), "p.yaml:15:18: folder: 'path': a folder is written relative to the policy's folder, as in 'teams/payments'"),
        (section("folders: [{path: a/../b, audiences: ['https://mail.example']}]"), "p.yaml:15:18: folder: 'path': a folder is written relative to the policy's folder, as in 'teams/payments'"),
        (section("folders: [{path: a, audiences: ['https://mial.example']}]"), "p.yaml:15:33: no audience 'https://mial.example' is declared; did you mean 'https://mail.example'?"),
        (AUDIENCES.replace("application: ledger", "application: ledger\n    environment: prod"), "p.yaml:5:18: no environment 'prod' is declared"),
        (section(grants(grant(groups="[workers]"))), "p.yaml:16:133: grant: no group 'workers' is declared"),
        (section(grants(grant(requires="[calm]"))), "p.yaml:16:135: grant: no condition 'calm' is declared"),
        (section(grants(grant(environments="[prod]"))), "p.yaml:16:139: grant: no environment 'prod' is declared"),
        (section("limits: [{id: l, workloads: ['spiffe://a/b'], audiences: ['*'], when: 'true'}]"), "p.yaml:15:10: limit: 'max_ttl' or 'requires' is missing: it would limit nothing"),
        (section("limits: [{id: l, workloads: ['spiffe://a/b'], audiences: ['*'], max_ttl: 1m}]"), "p.yaml:15:10: limit: 'when' is missing"),
        (section("risk_tiers: {high: {requires: [calm]}}"), "p.yaml:15:32: risk tier 'high': no condition 'calm' is declared"),
        (section("risk_tiers: {high: {approval: {approvers: ['spiffe://a/b'], quorum: 11, valid_for: 1m}}}"), "p.yaml:15:69: approval: 'quorum': a number from 1 to 10"),
        (section("risk_tiers: {high: {approval: {approvers: ['spiffe://a/b'], quorum: '1.5', valid_for: 1m}}}"), "p.yaml:15:69: approval: 'quorum': a number from 1 to 10"),
        (section("risk_tiers: {high: {approval: {approvers: ['spiffe://a/b'], valid_for: 8d}}}"), "p.yaml:15:72: approval: 'valid_for': an approval can be used for at most 7d"),
        (section("risk_tiers: {high: {approval: {approvers: ['a'], valid_for: 1d}}}"), "p.yaml:15:45: approval: 'approvers': a workload begins with 'spiffe://', in lower case"),
        (section("risk_tiers: {high: {approval: {approvers: ['spiffe://a/b'], valid_for: 1d, human: yes}}}"), "p.yaml:15:83: approval: 'human' must be one of true, false, not 'yes'"),
        (section("risk_tiers: {high: {approval: {approvers: [], valid_for: 1d}}}"), "p.yaml:15:43: approval: 'approvers' is empty; empty never means all"),
    ],
)  # fmt: skip
def test_every_fault_has_its_place_and_remedy(text: str, expected: str) -> None:
    assert fault(text) == expected


LEGACY = "{reason: r, owner: o, expires: 2027-01-01, max_ttl: 2h}"


def test_an_exception_needs_the_configurations_leave() -> None:
    expected = "p.yaml:16:132: legacy: exceptions are off until the configuration sets 'legacy_max_ttl' under [policy]"
    assert fault(section(grants(grant(legacy=LEGACY)))) == expected
    allowed = load(section(grants(grant(legacy=LEGACY))), ceiling=timedelta(hours=2))
    assert allowed.grants[0].legacy is not None


def test_an_exception_is_never_above_the_ceiling() -> None:
    expected = "p.yaml:16:184: legacy: 'max_ttl' is above 1h59m59s, the 'legacy_max_ttl' of the configuration"
    assert fault(section(grants(grant(legacy=LEGACY))), ceiling=timedelta(hours=2, seconds=-1)) == expected


@pytest.mark.parametrize(("scope", "risk"), [("write", "high"), ("refund", "critical")])
@pytest.mark.parametrize("grant_first", [True, False])
def test_an_exception_is_never_for_a_high_risk(scope: str, risk: str, *, grant_first: bool) -> None:
    exceptional = "version: 1\n" + grants(grant(scopes=f"[{scope}]", legacy=LEGACY))
    files = [PolicyFile("a.yaml", exceptional.encode()), PolicyFile("b.yaml", AUDIENCES.encode())]
    (only,) = faults(*(files if grant_first else reversed(files)), ceiling=timedelta(hours=2))
    assert only.endswith(f"legacy: never for a scope of risk {risk}")


@pytest.mark.parametrize("missing", ["reason", "owner", "expires", "max_ttl"])
def test_an_exception_answers_every_question_of_its_review(missing: str) -> None:
    fields = {"reason": "r", "owner": "o", "expires": "2027-01-01", "max_ttl": "2h"}
    legacy = "{" + ", ".join(f"{key}: {value}" for key, value in fields.items() if key != missing) + "}"
    found = fault(section(grants(grant(legacy=legacy))), ceiling=timedelta(hours=2))
    assert found == f"p.yaml:16:132: legacy: {missing!r} is missing"


class TestFolders:
    TOP = PolicyFile(
        "top.yaml",
        (AUDIENCES + "  - {name: https://new.example, application: n, scopes: [{name: s, risk: low}]}\nfolders:\n- {path: teams, audiences: ['https://mail.example', 'https://new.example']}\n"
         "- {path: teams/mail, audiences: ['https://mail.example']}\n").encode(),
    )  # fmt: skip
    NEW = grants(grant("n", audience="https://new.example", scopes="[s]"))

    def team(self, text: str, folder: str = "teams/mail") -> PolicyFile:
        return PolicyFile(f"{folder}/team.yaml", f"version: 1\n{text}".encode())

    def test_a_file_may_speak_of_what_its_folder_owns(self) -> None:
        mail = grants(grant(audience="https://mail.example", scopes="[send]"))
        more = "groups: [{name: w, workloads: ['spiffe://a/b']}]\nconditions: [{name: c, when: 'true'}]\n"
        policy = parse_policy([self.TOP, self.team(mail + more), self.team(self.NEW, "teams/other")])
        assert len(policy.grants) == 2

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (grants(grant()), "the folder 'teams/mail' does not own the audience 'https://ledger.example': top.yaml:17:3 lists those that it owns"),
            (f"prohibitions: [{{id: p, workloads: [{SETTLER!r}], audiences: ['*']}}]", "the folder 'teams/mail' does not own the audience '*'"),
            (f"limits: [{{id: p, workloads: [{SETTLER!r}], audiences: ['https://ledger.example'], when: 'true', max_ttl: 1m}}]", "the folder 'teams/mail' does not own the audience"),
            ("audiences: [{name: b, application: n, scopes: [{name: s, risk: low}]}]", "the folder 'teams/mail' does not own the audience 'b'"),
            ("risk_tiers: {low: {max_ttl: 1d}}", "'risk_tiers' is not for files in 'teams/mail': top.yaml:17:3 restricts the folder to its audiences"),
            ("min_ttl: 5s", "'min_ttl' is not for files in 'teams/mail'"),
            ("facts: []", "'facts' is not for files in 'teams/mail'"),
            ("environments: []", "'environments' is not for files in 'teams/mail'"),
            ("folders: []", "'folders' is not for files in 'teams/mail'"),
        ],
    )  # fmt: skip
    def test_a_file_cannot_give_what_its_folder_does_not_own(self, text: str, expected: str) -> None:
        found = faults(self.TOP, self.team(text))
        assert any(expected in each for each in found), found
        assert all(each.startswith("teams/mail/team.yaml:") for each in found)

    def test_every_folder_above_restricts(self) -> None:
        (found,) = faults(self.TOP, self.team(self.NEW))
        assert "the folder 'teams/mail' does not own" in found

    def test_folders_are_given_at_the_top_alone(self) -> None:
        (found,) = faults(PolicyFile("a.yaml", AUDIENCES.encode()), PolicyFile("b/c.yaml", b"version: 1\nfolders: []"))
        assert (
            found == "b/c.yaml:2:1: 'folders' stands in a file at the top of the policy's folder, where no team writes"
        )


class TestDigest:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("score < 80", "score < 81"),
            ("mode: audit", "mode: enforce"),
            ("max_age: 5m", "max_age: 6m"),
            ("tags: list(string)", "tags: string"),
            ("subject: caller", "subject: audience"),
            ('{name: production, workloads: ["spiffe://prod.example/**"]}', '{name: production, workloads: ["spiffe://prod.example/*"]}'),
            ("environments: [production]", "grant_types: [client_credentials]"),
            ("max_ttl: 60s", "max_ttl: 61s"),
            ("quorum: 2", "quorum: 3"),
            ("valid_for: 15m", "valid_for: 16m"),
            ('"spiffe://prod.example/a", ', ""),
            ("high: {requires: [calm]}", "high: {max_ttl: 5m}"),
        ],
    )  # fmt: skip
    def test_changes_with_all_that_decides(self, old: str, new: str) -> None:
        assert old in ALL
        assert load(ALL.replace(old, new)).digest != load(ALL).digest

    @pytest.mark.parametrize(
        ("old", "new"), [("Those who work.", "Others."), ("owner: team", "owner: other"), ("teams/mail", "teams/post")]
    )
    def test_stays_with_all_that_does_not(self, old: str, new: str) -> None:
        assert old in ALL
        assert load(ALL.replace(old, new)).digest == load(ALL).digest

    def test_holds_the_terms_of_an_exception(self) -> None:
        texts = [section(grants(grant(legacy=LEGACY.replace("2h", ttl)))) for ttl in ("1h", "2h")]
        assert len({load(text, ceiling=timedelta(hours=2)).digest for text in texts}) == 2


class TestHostile:
    def test_a_condition_of_a_megabyte_is_refused(self) -> None:
        found = fault(section(grants(grant(when="'" + "true && " * 131072 + "true'"))))
        assert "a condition has at most 4096 bytes" in found

    def test_deep_brackets_are_refused_before_the_engine_recurses(self) -> None:
        assert "brackets are nested more than 32 deep" in fault(section(grants(grant(when=f"'{'(' * 2000}'"))))

    def test_faults_within_conditions_do_not_read_the_file_again_and_again(self) -> None:
        broken = "".join(f"- name: c{number}\n  when: |\n    facts.x.y\n" for number in range(1000))
        began = time.process_time()
        with pytest.raises(PolicyInvalid) as caught:
            load(section(f"conditions:\n{broken}#{'x' * 10_000_000}"))
        assert (len(caught.value.faults), caught.value.more) == (MAX_FAULTS, 1000 - MAX_FAULTS)
        assert time.process_time() - began < 5  # decoding 10 MB for each of them takes longer

    def test_a_megabyte_of_conditions_loads_in_bounded_time(self) -> None:
        many = grants(*(grant(f"g{number}", when=f"request.ttl < duration('{number}s')") for number in range(1, 2001)))
        assert len(load(section(many)).grants) == 2000
