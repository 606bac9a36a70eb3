"""``issuer policy schema``, ``fmt`` and ``graph``, as they are typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, grant, grants
from typer.testing import CliRunner

from issuer.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

UGLY = AUDIENCES + grants('  - {id: "g", workloads: ["spiffe://prod.example/a"], scopes: [read],\n'
                          "     audience: https://ledger.example}\n")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "a.yaml").write_text(UGLY, encoding="utf-8")
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_schema_is_json_for_policies_and_for_cases() -> None:
    titles = {json.loads(run("schema", *more)[1])["title"] for more in ([], ["--test"])}
    assert len(titles) == 2


def test_graph_is_mermaid_svg_or_json(folder: Path) -> None:
    assert run("graph", "--policy", folder)[1].startswith("flowchart LR")
    assert run("graph", "--policy", folder, "--format", "svg")[1].startswith("<svg")
    document = json.loads(run("graph", "--policy", folder, "--output", "json")[1])
    assert [node["kind"] for node in document["nodes"]] == ["workload", "audience"]
    assert document["edges"] == [{"from": 0, "to": 1, "style": "low", "scopes": ["read"], "rules": ["g"]}]


def test_graph_says_what_cannot_be_drawn(folder: Path) -> None:
    code, _, said = run("graph", "--policy", folder, "--audience", "https://x.example")
    assert (code, said) == (1, "issuer: the policy declares no audience 'https://x.example'\n")
    code, _, said = run("graph", "--policy", folder, "--identity", "nonsense")
    assert code == 2
    assert "--identity nonsense" in said
    many = (grant(f"g{number}", workload=f"spiffe://prod.example/{number}") for number in range(400))
    (folder / "a.yaml").write_text(AUDIENCES + grants(*many), encoding="utf-8")
    code, _, said = run("graph", "--policy", folder)
    assert code == 1
    assert "draw a part of it, by --audience or --identity" in said


def test_fmt_shows_checks_and_writes(folder: Path) -> None:
    file = folder / "a.yaml"
    file.chmod(0o640)
    assert run("fmt", folder, "--check")[0] == 1
    code, shown, _ = run("fmt", folder, "--diff")
    assert code == 0
    assert "+++" in shown
    assert file.read_text(encoding="utf-8") == UGLY, "neither of them writes"
    code, said, _ = run("fmt", folder)
    assert (code, said) == (0, f"formatted {file}\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in folder.iterdir()] == ["a.yaml"]
    assert run("fmt", folder, "--check") == (0, "", "")
    assert run("check", folder)[0] == 0


def test_fmt_writes_through_a_link(folder: Path) -> None:
    target = folder.parent / "target.yaml"
    (folder / "a.yaml").rename(target)
    (folder / "a.yaml").symlink_to(target)
    assert run("fmt", folder)[0] == 0
    assert (folder / "a.yaml").is_symlink()
    assert target.read_text(encoding="utf-8") != UGLY


def test_fmt_leaves_alone_what_it_cannot_read_and_formats_the_rest(folder: Path) -> None:
    (folder / "b.yaml").write_text("a: [", encoding="utf-8")
    (folder / ".hidden.yaml").write_text("a: [", encoding="utf-8")
    code, said, fault = run("fmt", folder)
    assert code == 1
    assert said == f"formatted {folder / 'a.yaml'}\n"
    assert fault.startswith(f"issuer: {folder / 'b.yaml'}: ")
    assert (folder / "b.yaml").read_text(encoding="utf-8") == "a: ["


def test_fmt_tells_programs_too(folder: Path) -> None:
    document = json.loads(run("fmt", folder, "--diff", "--output", "json")[1])
    assert document == {"changed": [str(folder / "a.yaml")], "written": False, "faults": {}}


def test_fmt_of_nothing_is_a_fault_of_the_command(tmp_path: Path) -> None:
    code, _, said = run("fmt", tmp_path / "none")
    assert (code, said) == (2, f"issuer: there is nothing at {tmp_path / 'none'}\n")
