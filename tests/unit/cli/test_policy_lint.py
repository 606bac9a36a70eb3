from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

POLICY = """\
version: 1
facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]
audiences:
  - {name: https://ledger.example, application: ledger, scopes: [{name: read, risk: low}]}
grants:
  - id: g
    workloads: ["spiffe://prod.example/**"]
    audience: https://ledger.example
    scopes: [read]
    owner: team
    when: facts.risk.score < 80
"""
CONFIG = """\
issuer.url = "https://issuer.example"
policy.path = "policy.yaml"
keys.file = "key.pem"
ledger.file = "ledger.sqlite3"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(policy_app, ["lint", "--policy", str(folder / "policy.yaml"), *arguments])


def test_tells_each_finding_with_its_place(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "policy.yaml:6:5: warning: g speaks of every workload of prod.example [whole-domain]",
        "1 findings",
    ]
    assert run(folder, "--fail-on", "warning").exit_code == 1
    (document,) = json.loads(run(folder, "--output", "json").output)
    assert (document["check"], document["line"]) == ("whole-domain", 6)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", True),
        ('[admin.feeders]\n"spiffe://prod.example/f" = ["risk"]\n', False),
        ('[[facts.authzen]]\nname = "a"\nurl = "https://a.example"\ntypes = ["risk"]\n', False),
        ('[facts]\nfolder = "facts"\n', False),
    ],
)
def test_the_configuration_tells_which_facts_are_fed(folder: Path, more: str, *, told: bool) -> None:
    (folder / "issuer.toml").write_text(CONFIG + more, encoding="utf-8")
    assert ("[not-fed]" in run(folder, "--config", str(folder / "issuer.toml")).output) is told


def test_a_configuration_that_cannot_be_used_is_told(folder: Path) -> None:
    (folder / "issuer.toml").write_text("x", encoding="utf-8")
    assert run(folder, "--config", str(folder / "issuer.toml")).exit_code == 2


def test_the_configuration_tells_whether_persons_can_prove_it(folder: Path) -> None:
    policy = folder / "policy.yaml"
    approval = "{approvers: ['spiffe://people.example/*'], valid_for: 1h, human: true}"
    policy.write_text(policy.read_text() + f"risk_tiers: {{low: {{approval: {approval}}}}}\n", encoding="utf-8")
    (folder / "issuer.toml").write_text(CONFIG, encoding="utf-8")
    assert "[evidence]" in run(folder, "--config", str(folder / "issuer.toml")).output
    assert "[evidence]" not in run(folder).output
    issuer = '[[oidc.issuers]]\nname = "people"\nurl = "https://login.example"\naudience = "spiffe-issuer"\n'
    vouches = '[[approvals.evidence]]\nissuer = "people"\nspiffe_id = "spiffe://people.example/{sub}"\n'
    (folder / "issuer.toml").write_text(CONFIG + issuer + vouches, encoding="utf-8")
    assert "[evidence]" not in run(folder, "--config", str(folder / "issuer.toml")).output
