"""``issuer keys forget``: a key is lost, and the issuers that share a ledger have to go on without it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.ledger_loading import ConfigOption, configuration, opened
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.key_ring_shared import KeysOfLedger
from issuer.core.ledger_entries import KEY_REMOVED
from issuer.key_sharing import KeySharing
from issuer.ledger.errors import LedgerFault
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.config_sections import LedgerSection


def forget(
    key_id: Annotated[str, typer.Argument(metavar="KID", help="The key, as the issuer that does not start names it.")],
    config: ConfigOption = Path("issuer.toml"),
) -> None:
    """Say that no issuer has a key any more: its private half, and the key set that names it, are lost.

    For issuers that share a ledger in PostgreSQL: none serves that lacks a key by which others sign. What the
    key signed is refused from now on, and an issuer that has it after all, and signs by it, stops.

    [bold]Example[/bold]

        issuer keys forget 0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbW
    """
    section = configuration(config).ledger
    if section.file is not None:
        fail("the ledger is an SQLite file, which no other issuer shares: nothing has to be forgotten", ExitCode.USAGE)
    try:
        asyncio.run(_forget(section, key_id))
    except (LedgerFault, OSError) as fault:
        fail(str(fault))
    except TemporarilyUnavailable as error:
        fail(error.message)
    typer.echo(f"{key_id} is forgotten: what it signed is refused, and no issuer may sign by it")


async def _forget(section: LedgerSection, key_id: str) -> None:
    keys = KeysOfLedger()
    async with opened(section, "issuer keys forget", keys) as ledger:
        if key_id not in keys.signing:
            fail(f"the ledger names no such key; those that it names are: {', '.join(keys.signing) or 'none'}")
        await KeySharing(ledger, keys, SystemClock()).tell(KEY_REMOVED, key_id, actor="", how="lost")
