"""``issuer ledger``: whether the record of decisions holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, reader_of
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.ledger.errors import LedgerFault
from issuer.ledger.verification import verify_ledger

ledger_app = typer.Typer(help="Look after the record of decisions.", no_args_is_help=True)


@ledger_app.callback()
def ledger() -> None:
    """Look after the record of decisions."""


@ledger_app.command()
def verify(
    config: ConfigOption = Path("issuer.toml"), file: FileOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Go along every chain, and name the first entry of each that was edited, removed, moved or cut off.

    An issuer may write meanwhile. Exit code 0 when every chain holds, 1 when one does not.

    [bold]Example[/bold]

        issuer ledger verify --config issuer.toml
    """
    try:
        found = verify_ledger(reader_of(config, file))
    except LedgerFault as fault:
        fail(str(fault))
    if output is Output.JSON:
        typer.echo(json.dumps({"ok": not found.faults, **asdict(found)}))
    else:
        for fault_found in found.faults:
            name = f" ({fault_found.name})" if fault_found.name else ""
            typer.echo(f"chain {fault_found.writer}, entry {fault_found.position}{name}: {fault_found.problem}")
        state = "every one holds" if not found.faults else f"{len(found.faults)} do not hold"
        typer.echo(f"{found.chains} chains with {found.entries} good entries: {state}")
    if found.faults:
        raise typer.Exit(int(ExitCode.FAILED))
