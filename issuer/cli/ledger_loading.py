"""What the commands about the ledger have in common: which one they look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.config import ConfigError, load_config
from issuer.config_sections import Config, LedgerSection
from issuer.ledger_keeping import ledger_reader

if TYPE_CHECKING:
    from issuer.ledger.reading import LedgerReader

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The configuration that names the ledger.", envvar="ISSUER_CONFIG")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="The SQLite file of a ledger itself; no configuration is read.")
]


def reader_of(config: Path, file: Path | None) -> LedgerReader:
    """Return the ledger that a command looks at, or end the command."""
    return ledger_reader(section_of(config, file))


def section_of(config: Path, file: Path | None) -> LedgerSection:
    """Return where the ledger is that a command is about, or end the command."""
    return LedgerSection(file=file) if file is not None else configuration(config).ledger


def configuration(path: Path) -> Config:
    """Return the configuration, as ``issuer serve`` reads it, or end the command."""
    try:
        return load_config(path, os.environ)  # noqa: TID251
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)
