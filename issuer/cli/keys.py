"""``issuer keys``: the signing key, as its operator may see it."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.config import ConfigError, load_config
from issuer.signing.key_file import KeyFileError, KeyFileSigner

keys_app = typer.Typer(help="Show the signing key. Its private half is never printed.", no_args_is_help=True)


class OutputFormat(StrEnum):
    """How a command prints its result."""

    TEXT = "text"
    JSON = "json"


@keys_app.callback()
def _keys() -> None:
    """Show the signing key. Its private half is never printed."""


@keys_app.command()
def show(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration that names the key file.", envvar="ISSUER_CONFIG")
    ] = Path("issuer.toml"),
    key: Annotated[Path | None, typer.Option("--key", help="The key file itself; no configuration is read.")] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="Text, or JSON.")] = OutputFormat.TEXT,
) -> None:
    """Print the key's id, its algorithm and the key set that verifiers are given. Never makes a key.

    [bold]Example[/bold]

        issuer keys show --config issuer.toml --output json
    """
    path = key or _configured(config)
    try:
        signer = KeyFileSigner.open(path)
    except KeyFileError as error:
        fail(str(error))
    typer.echo(_as_json(path, signer) if output is OutputFormat.JSON else _as_text(path, signer))


def _configured(config: Path) -> Path:
    try:
        return load_config(config, os.environ).keys.file  # noqa: TID251 - as `issuer serve` reads it
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)


def _as_json(path: Path, signer: KeyFileSigner) -> str:
    jwks = json.loads(signer.public_keys().jwks)
    return json.dumps({"file": str(path), "kid": signer.key_id, "alg": signer.algorithm, "jwks": jwks}, indent=2)


def _as_text(path: Path, signer: KeyFileSigner) -> str:
    return (
        f"file       {path}\n"
        f"kid        {signer.key_id}\n"
        f"algorithm  {signer.algorithm}\n"
        f"key set    {signer.public_keys().jwks.decode()}"
    )
