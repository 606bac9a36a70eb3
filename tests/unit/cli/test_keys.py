import json
from pathlib import Path

import pytest
from joserfc.jwk import KeySet
from typer.testing import CliRunner

from issuer.cli.keys import keys_app
from issuer.signing.key_file import KeyFileSigner

CONFIG = """
[issuer]
url = "https://issuer.prod.example"
[policy]
path = "policy"
[keys]
file = "keys/signing.pem"
[ledger]
file = "ledger.sqlite3"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "issuer.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def signer(config: Path) -> KeyFileSigner:
    return KeyFileSigner.open_or_create(config.parent / "keys" / "signing.pem")


def test_shows_the_key_that_the_configuration_names(config: Path, signer: KeyFileSigner) -> None:
    result = CliRunner().invoke(keys_app, ["show", "--config", str(config)])
    assert result.exit_code == 0
    assert f"kid        {signer.key_id}\n" in result.stdout
    assert "algorithm  ES256\n" in result.stdout


def test_json_has_the_key_set_as_verifiers_read_it(config: Path, signer: KeyFileSigner) -> None:
    path = config.parent / "keys" / "signing.pem"
    result = CliRunner().invoke(keys_app, ["show", "--key", str(path), "--output", "json"])
    shown = json.loads(result.stdout)
    assert (shown["file"], shown["kid"], shown["alg"]) == (str(path), signer.key_id, "ES256")
    (key,) = KeySet.import_key_set(shown["jwks"]).keys
    assert not key.is_private


@pytest.mark.parametrize("output", ["text", "json"])
def test_never_prints_the_private_half(config: Path, signer: KeyFileSigner, output: str) -> None:
    result = CliRunner().invoke(keys_app, ["show", "--config", str(config), "--output", output])
    pem = (config.parent / "keys" / "signing.pem").read_text().splitlines()
    assert signer.key_id in result.output
    assert not any(line in result.output for line in pem)


def test_makes_no_key(config: Path) -> None:
    result = CliRunner().invoke(keys_app, ["show", "--config", str(config)])
    assert result.exit_code == 1
    assert "is not there" in result.stderr
    assert not (config.parent / "keys").exists()


def test_says_what_is_wrong_with_the_file(config: Path, signer: KeyFileSigner) -> None:
    path = config.parent / "keys" / "signing.pem"
    path.chmod(0o644)
    result = CliRunner().invoke(keys_app, ["show", "--config", str(config)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"issuer: signing key {path}: can be used by others")
    assert signer.key_id not in result.output


def test_says_what_is_wrong_with_the_configuration(tmp_path: Path) -> None:
    result = CliRunner().invoke(keys_app, ["show", "--config", str(tmp_path / "absent.toml")])
    assert result.exit_code == 2
    assert "no such file" in result.stderr


def test_help_has_an_example() -> None:
    assert "issuer keys show --config issuer.toml" in CliRunner().invoke(keys_app, ["show", "--help"]).output
