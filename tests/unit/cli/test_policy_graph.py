from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from support.policies import AUDIENCES, LEDGER, SETTLER, grant, grants, prohibition, prohibitions
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

MAIL = "https://mail.example"
OTHER = "spiffe://prod.example/ns/reports/sa/other"
RULES = grants(
    grant("a", application="payments", description="'<b>&\"hostile\"'"),
    grant("b", "[send]", workload=OTHER, audience=MAIL, expires="2026-06-30"),
) + prohibitions(prohibition(scopes="[read]"))


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(AUDIENCES + RULES, encoding="utf-8")
    return str(path)


def run(policy: str, *arguments: str) -> Result:
    return CliRunner().invoke(policy_app, ["graph", "-p", policy, "--at", "2026-06-01", *arguments])


def test_draws_mermaid(policy: str) -> None:
    result = run(policy, "--audience", LEDGER)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:7] == [
        "flowchart LR",
        f'  n0["{SETTLER}"]:::workload',
        '  n1("payments"):::application',
        f'  n2[["{LEDGER}"]]:::audience',
        '  n1 -->|"read"| n2',
        '  n0 -->|"read"| n1',
        '  n0 -.->|"not read"| n2',
    ]


def test_draws_svg(policy: str) -> None:
    result = run(policy, "--format", "svg")
    assert result.exit_code == 0
    titles = [element.text for element in ET.fromstring(result.stdout).iter() if element.tag.endswith("}title")]  # noqa: S314
    assert f'{SETTLER} to payments\nlow: read\na: <b>&"hostile"' in titles


def test_tells_programs_the_nodes_and_edges(policy: str) -> None:
    document = json.loads(run(policy, "-o", "json", "--identity", "spiffe://prod.example/ns/payments/**").stdout)
    assert document["nodes"] == [
        {"kind": "workload", "name": SETTLER},
        {"kind": "application", "name": "payments", "audience": LEDGER},
        {"kind": "audience", "name": LEDGER},
    ]
    assert {"from": 0, "to": 2, "style": "prohibited", "scopes": ["read"], "rules": ["p"]} in document["edges"]


def test_a_moment_can_be_chosen(policy: str) -> None:
    assert "inactive" not in run(policy).stdout
    assert '|"send - inactive"|' in run(policy, "--at", "2026-07-02").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--audience", "https://nowhere.example"], 1, "the policy declares no audience 'https://nowhere.example'"),
        (["--identity", "settler"], 2, "--identity settler: a workload begins with 'spiffe://'"),
    ],
)
def test_what_cannot_be_drawn_is_told(policy: str, arguments: list[str], code: int, says: str) -> None:
    result = run(policy, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_too_much_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    rules = (grant(f"g{number}", workload=f"spiffe://prod.example/{number}") for number in range(500))
    path.write_text(AUDIENCES + grants(*rules), encoding="utf-8")
    result = run(str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "501 nodes and 500 edges" in result.stderr
    assert "--audience or --identity" in result.stderr
    assert run(str(path), "--identity", "spiffe://prod.example/7").exit_code == 0
