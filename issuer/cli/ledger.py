"""``issuer ledger``: whether the record of decisions holds, and what keeps it in shape."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, configuration, opened, reader_of, section_of
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.core.checkpoint import ledger_keys
from issuer.core.duration import parse_duration
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.ledger.checkpoints import CheckpointFile
from issuer.ledger.errors import LedgerFault
from issuer.ledger.postgres_ledger import migrate_postgres
from issuer.ledger.pruning import prunable, prune
from issuer.ledger.sqlite_file import migrate_sqlite
from issuer.ledger.verification import verify_ledger
from issuer.ledger_keeping import ledger_reader
from issuer.signing.key_file import KeyFileError
from issuer.signing.key_folder import KeyFolder
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from issuer.config_sections import LedgerSection
    from issuer.ledger.verification import Verification

ledger_app = typer.Typer(help="Look after the record of decisions.", no_args_is_help=True)


@ledger_app.callback()
def ledger() -> None:
    """Look after the record of decisions."""


@ledger_app.command()
def verify(
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Signed statements kept elsewhere; else the configured file.")
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option("--jwks", help="The issuer's key set; by default its key file's public half.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Go along every chain, and name the first entry of each that was edited, removed, moved or cut off.

    An issuer may write meanwhile. With --file alone, signed checkpoints are not looked at. Exit code 0 when every chain
    holds, 1 when one does not.

    [bold]Example[/bold]

        issuer ledger verify --config issuer.toml
        issuer ledger verify --file copy.sqlite3 --jwks keys.json --checkpoints /mnt/worm/checkpoints.jws
    """
    path = checkpoints or (None if file else section_of(config, None).checkpoints)
    try:
        keys = _keys(config, file, jwks)
        if checkpoints and keys is None:
            fail("--checkpoints needs the keys that they are signed with: give --jwks", ExitCode.USAGE)
        statements = CheckpointFile(path).statements() if path and (checkpoints or path.exists()) else ()
        found = verify_ledger(reader_of(config, file), keys, statements)
    except LedgerFault as fault:
        fail(str(fault))
    _tell(found, output)
    if found.faults:
        raise typer.Exit(int(ExitCode.FAILED))


@ledger_app.command(name="prune")
def prune_command(
    older_than: Annotated[str, typer.Option("--older-than", help="How old an entry must be to go: 90d, 12h.")],
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many entries would go.")] = False,  # noqa: FBT002
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove old entries; what stays can still be proved, and an entry says what went.

    While an issuer writes to an SQLite ledger, set [ledger] keep instead: it prunes by itself.

    [bold]Example[/bold]

        issuer ledger prune --older-than 90d --dry-run
    """
    section, now = section_of(config, file), SystemClock().now()
    try:
        before = now - parse_duration(older_than)
    except ValueError as error:
        fail(f"--older-than: {error}", ExitCode.USAGE)
    try:
        if dry_run:
            _, count = prunable(ledger_reader(section), microseconds(before))
        else:
            count = asyncio.run(_prune(section, before, now))
    except (LedgerFault, OSError) as fault:
        fail(str(fault))
    except TemporarilyUnavailable as error:
        fail(error.message)
    if output is Output.JSON:
        typer.echo(json.dumps({"pruned": count, "before": before.isoformat(), "dry_run": dry_run}))
    else:
        went = "would go" if dry_run else "are gone"
        typer.echo(f"{count} entries from before {before:%Y-%m-%d %H:%M:%S} UTC {went}")


@ledger_app.command()
def migrate(
    config: ConfigOption = Path("issuer.toml"), file: FileOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Bring the ledger's tables to this program's version. `issuer serve` does the same at its start.

    [bold]Example[/bold]

        issuer ledger migrate --config issuer.toml
    """
    section = section_of(config, file)
    try:
        before, after = migrate_sqlite(section.file) if section.file else migrate_postgres(section.postgresql or "")
    except LedgerFault as fault:
        fail(str(fault))
    if output is Output.JSON:
        typer.echo(json.dumps({"before": before, "after": after}))
    else:
        typer.echo(f"the tables are of version {after}" + (f", and were of {before}" if before != after else ""))


def _keys(config: Path, file: Path | None, jwks: Path | None) -> Mapping[str, EllipticCurvePublicKey] | None:
    """Return the keys that sign checkpoints; ``None`` when the command names none."""
    try:
        if jwks is not None:
            return ledger_keys(jwks.read_text("utf-8"))
        if file is not None:
            return None
        held = KeyFolder(configuration(config).keys.file).open(int(SystemClock().now().timestamp()))
        return ledger_keys(held.ring.known.jwks.decode())
    except KeyFileError as error:
        typer.echo(f"issuer: signed checkpoints are not looked at: {error}; or give the key set with --jwks", err=True)
        return None
    except (OSError, ValueError) as error:
        fail(f"{jwks}: {error.strerror if isinstance(error, OSError) else error}", ExitCode.USAGE)


async def _prune(section: LedgerSection, before: datetime, now: datetime) -> int:
    async with opened(section, "issuer ledger prune") as ledger:
        return await prune(ledger, ledger_reader(section), before=before, now=now, actor="")


def _tell(found: Verification, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"ok": not found.faults, **asdict(found)}))
        return
    for fault in found.faults:
        place = [f"chain {fault.writer}"] * bool(fault.writer) + [f"entry {fault.position}"] * bool(fault.position)
        name = [f"({fault.name})" if place else fault.name] * bool(fault.name)
        typer.echo(f"{' '.join([', '.join(place), *name]).strip()}: {fault.problem}")
    state = "every one holds" if not found.faults else f"{len(found.faults)} do not hold"
    signed = "" if found.signed is None else f"; signed checkpoints vouch for {found.signed}"
    typer.echo(f"{found.chains} chains with {found.entries} good entries: {state}{signed}")
