from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
LEDGER = "https://ledger.example"
POLICY = f"""\
version: 1
facts: [{{name: posture, subject: caller, max_age: 1h, fields: {{status: string}}}}]
risk_tiers: {{low: {{max_ttl: 1d}}}}
audiences:
  - {{name: {LEDGER}, application: ledger, scopes: [{{name: read, risk: low}}, {{name: write, risk: high}}]}}
grants:
  - id: g
    workloads: ["{SETTLER}"]
    audience: {LEDGER}
    scopes: [read]
    when: facts.posture.status == "healthy" && request.intent.operation == "settle"
  - id: mainframe
    workloads: ["spiffe://prod.example/legacy/mainframe"]
    audience: {LEDGER}
    scopes: [read]
    legacy: {{reason: batch job, owner: team, expires: 2026-12-31, max_ttl: 4h}}
"""
FACTS = (
    f"facts:\n- {{type: posture, subject: '{SETTLER}', values: {{status: healthy}}, observed: 2026-06-01T12:00:00Z}}\n"
)
AT = ["--at", "2026-06-01T12:05:00", "--legacy-max-ttl", "4h"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "facts.yaml").write_text(FACTS, encoding="utf-8")
    return tmp_path


def run(files: Path, *arguments: str) -> Result:
    return CliRunner().invoke(policy_app, [*arguments, "--policy", str(files / "policy.yaml")])


def explain(files: Path, *more: str, scope: str = "read") -> Result:
    return run(files, "explain", SETTLER, LEDGER, scope, *AT, *more)


def test_shows_what_is_missing_and_what_would_change_it(files: Path) -> None:
    result = explain(files)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "refused: FACT_MISSING for read",
        "scope read: what gives it does not apply: g",
        "- grant g: a condition is unknown, which does not grant  policy.yaml:7:5",
        '    unknown: facts.posture.status == "healthy" && request.intent.operation == "settle"',
        "      facts.posture.status: missing",
        "      request.intent.operation: missing",
        '      facts.posture.status == "healthy" -> unknown',
        '      request.intent.operation == "settle" -> unknown',
        "what stands in the way:",
        "  grant g: tell facts.posture.status, request.intent.operation",
    ]


def test_shows_the_values_that_granted(files: Path) -> None:
    told = ["--facts", str(files / "facts.yaml"), "--intent", "operation=settle", "--ttl", "5m"]
    result = explain(files, *told, "--expect", "granted")
    assert result.exit_code == 0
    assert "granted: read for 5m, which request sets" in result.output
    assert "scope read: by g, at most 5m (request), 1h (svid), 1d (risk tier low)" in result.output
    assert '      facts.posture.status = "healthy"' in result.output
    document = json.loads(explain(files, *told, "--output", "json").output)
    assert (document["granted"], document["lifetime_seconds"]) == (True, 300)
    assert [scope["terms"][0] for scope in document["scopes_asked"]] == [
        {"bound": "request", "rule": "", "seconds": 300}
    ]
    assert document["rules"][0]["conditions"][0]["values"]["facts.posture.status"] == '"healthy"'


def test_an_exception_outlives_the_svid_unless_it_is_bound(files: Path) -> None:
    mainframe = ["explain", "spiffe://prod.example/legacy/mainframe", LEDGER, "read", *AT]
    assert "granted: read for 4h, which mainframe sets" in run(files, *mainframe).output
    assert "granted: read for 1h, which svid sets" in run(files, *mainframe, "--bind-certificate").output


def test_tells_what_was_left_out_and_what_rules_in_audit_mode_would_do(files: Path) -> None:
    audited = "prohibitions: [{id: p, workloads: ['spiffe://prod.example/**'], audiences: ['*'], mode: audit}]"
    rules = POLICY.replace('status == "healthy"', 'status == "healthy" && now < caller.svid_expires') + audited
    (files / "policy.yaml").write_text(rules, encoding="utf-8")
    told = ["--facts", str(files / "facts.yaml"), "--intent", "operation=settle", "--allow-partial"]
    output = run(files, "explain", SETTLER, LEDGER, "read", "write", *AT, *told).output
    assert "granted: read for 1h, which svid sets\nleft out: write\n" in output
    assert "with the rules in audit mode it would refuse: AUDIENCE_NOT_ALLOWED" in output
    assert "scope write: no grant for this caller gives it" in output
    assert "      caller.svid_expires = 2026-06-01T13:05:00Z" in output
    assert "+ prohibition p (audit): applies" in output


def test_shows_what_is_near_when_no_grant_speaks_of_the_caller(files: Path) -> None:
    output = run(files, "explain", "spiffe://prod.example/ns/payments/sa/setler", LEDGER, "read", *AT).output
    assert f"no grant speaks of this caller; near: {SETTLER} (grant g)" in output


def test_an_expectation_that_fails_is_exit_code_1(files: Path) -> None:
    result = explain(files, "--expect", "granted")
    assert result.exit_code == 1
    assert "expected granted, and it is refused" in result.output


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (["--ttl", "5"], "--ttl: '5' is not a duration", 2),
        (["--ttl", "0s"], "ttl must be positive", 2),
        (["--intent", "task=x"], "--intent: 'task' is none of operation, resource", 2),
        (["--facts", "nowhere.yaml"], "nowhere.yaml: No such file", 2),
        (["--legacy-max-ttl", "x"], "--legacy-max-ttl: 'x' is not a duration", 2),
    ],
)
def test_a_wrong_option_is_told(files: Path, more: list[str], message: str, code: int) -> None:
    result = explain(files, *more)
    assert result.exit_code == code
    assert message in result.output


def test_a_broken_file_of_facts_is_told_with_its_place(files: Path) -> None:
    (files / "facts.yaml").write_text(FACTS.replace("posture,", "posure,"), encoding="utf-8")
    result = explain(files, "--facts", str(files / "facts.yaml"))
    assert result.exit_code == 1
    assert "facts.yaml:2:3: type: policy declares no fact 'posure'; did you mean 'posture'?" in result.output


def test_a_wrong_spiffe_id_is_told(files: Path) -> None:
    assert run(files, "explain", "nobody", LEDGER, "read").exit_code == 2


def test_exceptions_are_listed_with_what_a_review_asks(files: Path) -> None:
    result = run(files, "exceptions", "--at", "2026-12-01")
    assert result.output.splitlines() == [
        "mainframe: until 2027-01-01T00:00:00Z, 31 days left; at most 4h",
        "  https://ledger.example: read",
        "  spiffe://prod.example/legacy/mainframe",
        "  team: batch job  policy.yaml:12:5",
    ]
    assert "ended" in run(files, "exceptions", "--at", "2027-01-01").output
    assert run(files, "exceptions", "--at", "2026-11-01", "--within", "30").output == "no exceptions\n"
    (document,) = json.loads(run(files, "exceptions", "--at", "2027-01-01", "--output", "json").output)
    assert (document["id"], document["ended"], document["max_ttl_seconds"]) == ("mainframe", True, 14400)
