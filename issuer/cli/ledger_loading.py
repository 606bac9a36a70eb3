"""What the commands about the ledger have in common: which one they look at."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from issuer.cli.failure import ExitCode, fail
from issuer.config import ConfigError, load_config
from issuer.config_sections import Config, LedgerSection
from issuer.core.claim_books import ClaimBooks
from issuer.ledger.group_commit import GroupCommit
from issuer.ledger.observing import Unobserved
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger_keeping import ledger_engine, ledger_reader
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from issuer.core.claim_books import ClaimBook
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


@asynccontextmanager
async def opened(section: LedgerSection, program: str, *books: ClaimBook) -> AsyncIterator[GroupCommit]:
    """Have a ledger to write to.

    Args:
        section: Which.
        program: The command, for the first entry of its chain.
        books: What of its claims the command has to know.

    Raises:
        LedgerFault, OSError: It cannot be opened.
    """
    ledger = GroupCommit(
        ledger_engine(section),
        revocations=LedgerRevocations(),
        claims=ClaimBooks(*books),
        max_wait=section.max_wait,
        max_waiting=section.max_waiting,
        program=program,
        clock=SystemClock(),
        ids=RandomIds(),
        log=structlog.wrap_logger(structlog.ReturnLogger()),
        on_change=lambda: None,
        observer=Unobserved(),
    )
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()
