"""What the commands about the ledger have in common: which one they look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.config import ConfigError, load_config
from issuer.ledger.reading import LedgerReader

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The configuration that names the ledger.", envvar="ISSUER_CONFIG")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="The SQLite file of a ledger itself; no configuration is read.")
]


def reader_of(config: Path, file: Path | None) -> LedgerReader:
    """Return the ledger that a command looks at, or end the command."""
    if file is not None:
        return LedgerReader.sqlite(file)
    try:
        section = load_config(config, os.environ).ledger  # noqa: TID251 - as `issuer serve` reads it
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)
    return LedgerReader.sqlite(section.file) if section.file else LedgerReader.postgres(section.postgresql or "")
