from pathlib import Path

from typer.testing import CliRunner

from issuer.cli.main import app
from issuer.config import load_config
from issuer.policy_files.directory import load_policy

run = CliRunner().invoke


def test_writes_a_configuration_and_a_policy_that_load(tmp_path: Path) -> None:
    result = run(app, ["init", str(tmp_path / "new")])
    assert result.exit_code == 0
    config = load_config(tmp_path / "new/issuer.toml", {})
    assert load_policy(config.policy.path).digest.startswith("sha256:")
    assert f"issuer serve --config {tmp_path}/new/issuer.toml" in result.output


def test_the_cases_try_every_rule_of_the_policy(tmp_path: Path) -> None:
    run(app, ["init", str(tmp_path)])
    result = run(app, ["policy", "test", "--policy", str(tmp_path / "policy"), "--coverage-min", "100"])
    assert result.exit_code == 0, result.output


def test_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "issuer.toml").write_text("mine", encoding="utf-8")
    result = run(app, ["init", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path}/issuer.toml is there already; nothing was written" in result.output
    assert not (tmp_path / "policy").exists()
    assert (tmp_path / "issuer.toml").read_text(encoding="utf-8") == "mine"


def test_says_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run(app, ["init", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot write" in result.output
