from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, LEDGER, SETTLER, grant, grants, prohibition, prohibitions
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

TEAM = "spiffe://prod.example/ns/payments/**"
FACTS = "facts: [{name: risk, subject: caller, max_age: 1h, fields: {level: string}}]\n"
OLD = grants(grant("a", max_ttl="90s"), grant("b", "[write]", workload=TEAM, application="payments")) + FACTS
NEW = (
    grants(
        grant("a", max_ttl="60s", when="'facts.risk.level == \"low\"'"),
        grant("b", "[write]", workload=TEAM, application="payments"),
        grant("c", "[refund]"),
    )
    + prohibitions(prohibition("freeze", "spiffe://prod.example/ns/*/sa/x"))
    + FACTS.replace("1h", "2h")
)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    for name, rules in (("old.yaml", OLD), ("new.yaml", NEW)):
        (tmp_path / name).write_text(AUDIENCES + rules, encoding="utf-8")
    return str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy_app, ["diff", *arguments, "--at", "2026-06-01"])


def test_says_who_gains_loses_and_changes_what(sides: tuple[str, str]) -> None:
    result = run(*sides)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "gains:",
        f"  {SETTLER}",
        f"    {LEDGER}: refund by client_credentials  (c)",
        "      risk critical, max_ttl 2m, binding required",
        "loses:",
        "  spiffe://prod.example/ns/payments/sa/x",
        f"    {LEDGER}: write for payments by client_credentials, to prohibition freeze  (b)",
        "      prohibited: none -> always",
        "changes:",
        f"  {SETTLER}",
        f"    {LEDGER}: read by client_credentials  (a)",
        "      max_ttl: 1m30s -> 1m",
        '      when: none -> facts.risk.level == "low"',
        "what decisions depend on:",
        "  fact risk: about caller, at most 1h old, level: string -> about caller, at most 2h old, level: string",
        "1 identity gains, 1 loses, 1 changes",
    ]


def test_says_it_the_other_way_round(sides: tuple[str, str]) -> None:
    result = run(*reversed(sides))
    assert f"    {LEDGER}: write for payments by client_credentials, back from prohibition freeze  (b)" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 identity gains, 1 loses, 1 changes"


def test_says_it_to_programs(sides: tuple[str, str]) -> None:
    result = run(*sides, "--output", "json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["identities"] == {"gains": 1, "loses": 1, "changes": 1}
    assert document["old_digest"] != document["new_digest"]
    assert document["accesses"][1] == {
        "effect": "loses",
        "workload": "spiffe://prod.example/ns/payments/sa/x",
        "audience": LEDGER,
        "application": "payments",
        "scopes": ["write"],
        "grant_types": ["client_credentials"],
        "changes": [{"name": "prohibited", "from": None, "to": "always"}],
        "grants": ["b"],
        "prohibitions": ["freeze"],
    }
    assert [change["name"] for change in document["surroundings"]] == ["fact risk"]


def test_the_same_policy_is_no_difference(sides: tuple[str, str]) -> None:
    result = run(sides[0], sides[0])
    assert result.exit_code == 0
    assert result.stdout.startswith("no difference: both have the digest sha256:")


def test_another_id_is_no_difference_in_access(sides: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "renamed.yaml").write_text(AUDIENCES + OLD.replace("id: a", "id: z"), encoding="utf-8")
    result = run(sides[0], str(tmp_path / "renamed.yaml"))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert result.stdout.startswith("no difference in who may have what")


def test_what_a_terminal_would_obey_is_spelled_out(sides: tuple[str, str], tmp_path: Path) -> None:
    when = "|\n      facts.risk.level == '''\n\n      \u200f'''\n"
    one = f"id: a\n    workloads: ['{SETTLER}']\n    audience: {LEDGER}\n    scopes: [read]\n    when: {when}"
    rules = f"grants:\n  - {one}"
    (tmp_path / "hostile.yaml").write_text(AUDIENCES + FACTS + rules, encoding="utf-8")
    result = run(sides[0], str(tmp_path / "hostile.yaml"))
    assert "\u200f" not in result.stdout
    assert "facts.risk.level == '''\\n\\n\\u200f'''" in result.stdout


@pytest.mark.parametrize("broken", [0, 1])
def test_what_cannot_be_compared_is_told_apart_from_a_difference(
    sides: tuple[str, str], tmp_path: Path, broken: int
) -> None:
    arguments = list(sides)
    arguments[broken] = str(tmp_path / "nowhere")
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (2, f"issuer: there is nothing at {tmp_path / 'nowhere'}\n")
    (tmp_path / "nowhere").write_text("version: 2", encoding="utf-8")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "'version' must be 1" in result.stderr
