from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

POLICY = """\
version: 1
audiences:
  - {name: https://ledger.example, application: ledger, scopes: [{name: read, risk: low}]}
grants:
  - id: g
    workloads: ["spiffe://prod.example/a"]
    audience: https://ledger.example
    scopes: [read]
    when: now.getHours("UTC") >= 6
"""
CASES = """\
version: 1
cases:
  - name: by day
    at: 2026-06-01T12:00:00Z
    caller: spiffe://prod.example/a
    request: {audience: https://ledger.example, scopes: [read]}
    expect: {outcome: granted}
"""
BY_NIGHT = CASES.replace("by day", "by night").replace("T12", "T03")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "ledger.test.yaml").write_text(CASES, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(policy_app, ["test", *arguments, "--policy", str(folder)])


def test_cases_stand_beside_the_policy_and_are_no_part_of_it(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "ok  by day  teams/ledger.test.yaml:3:5",
        "1 cases; 66 % of the rules and of the sides of conditions covered",
        '  now.getHours("UTC") >= 6 was never false',
    ]


def test_a_failure_says_what_came_out_and_what_stands_in_the_way(folder: Path) -> None:
    (folder / "night.test.yaml").write_text(BY_NIGHT, encoding="utf-8")
    result = run(folder, "--junit", str(folder / "results.xml"))
    assert result.exit_code == 1
    assert "FAIL  by night  night.test.yaml:3:5" in result.output
    assert "      outcome: expected granted, got refused" in result.output
    assert '      grant g: now.getHours("UTC") >= 6 would have to be true' in result.output
    assert "1 of 2 cases did not come out as expected" in result.output
    suite = ET.parse(folder / "results.xml").getroot()  # noqa: S314 - written by the command above
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == ["by night"]


def test_coverage_can_be_demanded(folder: Path) -> None:
    assert run(folder, "--coverage-min", "66").exit_code == 0
    result = run(folder, "--coverage-min", "67")
    assert result.exit_code == 1
    assert "66 % is covered, and 67 % is asked for" in result.output


def test_json_is_for_programs(folder: Path) -> None:
    document = json.loads(run(folder, "--output", "json").output)
    assert document["cases"] == [
        {"name": "by day", "source": "teams/ledger.test.yaml:3:5", "ok": True, "differences": []}
    ]
    assert document["coverage"]["percent"] == 66


def test_nothing_to_run_is_a_fault_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "write them into a file named '*.test.yaml'" in result.output


@pytest.mark.parametrize("text", ["version: 1\ncases: []\n"])
def test_a_file_without_cases_is_no_success(folder: Path, text: str) -> None:
    (folder / "teams" / "ledger.test.yaml").write_text(text, encoding="utf-8")
    assert run(folder).exit_code == 2


def test_hidden_files_are_left_alone(folder: Path) -> None:
    (folder / "..data").mkdir()
    (folder / "..data" / "ledger.test.yaml").write_text(CASES, encoding="utf-8")
    assert "1 cases;" in run(folder).output


def test_beside_a_single_file_are_those_of_its_own_folder(folder: Path) -> None:
    (folder / "night.test.yaml").write_text(BY_NIGHT.replace("granted", "refused"), encoding="utf-8")
    result = run(folder / "policy.yaml")
    assert result.exit_code == 0, result.output
    assert "ok  by night  night.test.yaml:3:5" in result.output
    assert "by day" not in result.output


def test_results_that_cannot_be_written_are_told(folder: Path) -> None:
    result = run(folder, "--junit", str(folder / "nowhere" / "results.xml"))
    assert result.exit_code == 2
    assert "results.xml: No such file or directory" in result.output


def test_colours_are_for_terminals(folder: Path) -> None:
    assert "\x1b[" not in run(folder).output
    coloured = CliRunner().invoke(policy_app, ["test", "--policy", str(folder)], color=True)
    assert "\x1b[32mok\x1b[0m" in coloured.output


def test_a_file_that_cannot_be_used_is_told(folder: Path) -> None:
    broken = folder / "broken.test.yaml"
    broken.write_text("cases: 3\n", encoding="utf-8")
    result = run(folder, str(broken))
    assert result.exit_code == 1
    assert "broken.test.yaml:1:8: 'cases' must be a list" in result.output
    assert run(folder, str(folder / "absent.test.yaml")).exit_code == 2
