"""``issuer keys``: the signing keys, as their operator may see them; ``show`` reads their files."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.keys_forget import forget
from issuer.cli.keys_rotation import activate, list_, prepare, remove
from issuer.config import ConfigError, load_config
from issuer.signing.key_file import KeyFileError
from issuer.signing.key_folder import KeyFolder
from issuer.signing.signing_keys import SigningKeys
from issuer.system import SystemClock

keys_app = typer.Typer(
    help="Show the signing keys, and change them. Private halves are never printed.", no_args_is_help=True
)


class OutputFormat(StrEnum):
    """How a command prints its result."""

    TEXT = "text"
    JSON = "json"


@keys_app.callback()
def _keys() -> None:
    """Show the signing keys, and change them. Private halves are never printed."""


keys_app.command("list")(list_)
keys_app.command()(prepare)
keys_app.command()(activate)
keys_app.command()(remove)
keys_app.command()(forget)


@keys_app.command()
def show(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration that names the key file.", envvar="ISSUER_CONFIG")
    ] = Path("issuer.toml"),
    key: Annotated[Path | None, typer.Option("--key", help="The key file itself; no configuration is read.")] = None,
    known: Annotated[  # noqa: FBT002
        bool, typer.Option("--known", help="With the keys that are published no more, for old checkpoints.")
    ] = False,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="Text, or JSON.")] = OutputFormat.TEXT,
) -> None:
    """Print the active key's id, its algorithm and the key set that verifiers are given. Never makes a key.

    [bold]Example[/bold]

        issuer keys show --config issuer.toml --output json
    """
    path = key or _configured(config)
    try:
        signer = SigningKeys(KeyFolder(path).open(int(SystemClock().now().timestamp())))
    except KeyFileError as error:
        fail(str(error))
    jwks = (signer.known_keys() if known else signer.public_keys()).jwks
    typer.echo(_as_json(path, signer, jwks) if output is OutputFormat.JSON else _as_text(path, signer, jwks))


def _configured(config: Path) -> Path:
    try:
        return load_config(config, os.environ).keys.file  # noqa: TID251 - as `issuer serve` reads it
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)


def _as_json(path: Path, signer: SigningKeys, jwks: bytes) -> str:
    shown = {"file": str(path), "kid": signer.key_id, "alg": signer.algorithm, "jwks": json.loads(jwks)}
    return json.dumps(shown, indent=2)


def _as_text(path: Path, signer: SigningKeys, jwks: bytes) -> str:
    return f"file       {path}\nkid        {signer.key_id}\nalgorithm  {signer.algorithm}\nkey set    {jwks.decode()}"
