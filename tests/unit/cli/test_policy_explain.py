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
    assert '      facts.posture.status = "healthy"' in result.output
    document = json.loads(explain(files, *told, "--output", "json").output)
    assert (document["granted"], document["lifetime_seconds"]) == (True, 300)
    assert document["rules"][0]["conditions"][0]["values"]["facts.posture.status"] == '"healthy"'


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
