"""``issuer decisions``: what was decided, and from what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, reader_of
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.core.duration import parse_duration
from issuer.core.instants import microseconds, moment
from issuer.core.record import Flag, Outcome
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import MAX_LISTED, DecisionFilter
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.core.record import DecisionRecord
    from issuer.ledger.reading import StoredDecision

decisions_app = typer.Typer(help="Read the record of decisions.", no_args_is_help=True)

_OUTCOMES = {outcome.name.lower(): outcome for outcome in Outcome}


@decisions_app.callback()
def decisions() -> None:
    """Read the record of decisions."""


@decisions_app.command("list")
def list_decisions(
    since: Annotated[str | None, typer.Option(help="How far back, as 24h or 7d.")] = None,
    caller: Annotated[str | None, typer.Option(help="The SPIFFE ID that asked.")] = None,
    audience: Annotated[str | None, typer.Option(help="The audience that was asked for.")] = None,
    application: Annotated[str | None, typer.Option(help="The application that was claimed or given.")] = None,
    outcome: Annotated[str | None, typer.Option(help=f"One of {', '.join(_OUTCOMES)}.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why there was no token, as SCOPE_NOT_ALLOWED.")] = None,
    policy: Annotated[str | None, typer.Option(help="The digest of the policy that decided.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=MAX_LISTED)] = 50,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List decisions, the newest first.

    [bold]Example[/bold]

        issuer decisions list --since 24h --outcome denied --audience https://ledger.example.org
    """
    if outcome is not None and outcome not in _OUTCOMES:
        fail(f"--outcome {outcome}: one of {', '.join(_OUTCOMES)}", ExitCode.USAGE)
    wanted = DecisionFilter(
        since=_since(since),
        caller=caller,
        audience=audience,
        application=application,
        outcome=None if outcome is None else _OUTCOMES[outcome],
        reason=reason,
        policy=policy,
    )
    try:
        found = reader_of(config, file).newest(wanted, limit)
    except LedgerFault as fault:
        fail(str(fault))
    if output is Output.JSON:
        typer.echo(json.dumps([document_of(stored) for stored in found]))
        return
    for stored in found:
        typer.echo(_line(stored.record))
    if not found:
        typer.echo("no decisions")


@decisions_app.command()
def show(
    name: Annotated[str, typer.Argument(help="The id of a decision, or the jti of a token.")],
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one decision whole: what was asked, what was known, what came of it.

    [bold]Example[/bold]

        issuer decisions show 0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    try:
        found = reader_of(config, file).find(name)
    except LedgerFault as fault:
        fail(str(fault))
    if not found:
        fail(f"no decision {name} is in this ledger")
    for stored in found:
        document = document_of(stored)
        if output is Output.JSON:
            typer.echo(json.dumps(document))
            continue
        width = max(map(len, document))
        for key, value in document.items():
            if value not in (None, "", [], False):
                typer.echo(f"{key:<{width}}  {_shown(value)}")


def document_of(stored: StoredDecision) -> dict[str, object]:
    """Return a decision for programs, its fields by name."""
    record = stored.record
    sha256, serial, not_after = record.svid.split(" ")
    return {
        "decision_id": str(UUID(bytes=record.decision_id)),
        "time": _time(record.time),
        "outcome": Outcome(record.outcome).name.lower(),
        "reason": record.reason,
        "caller": record.caller,
        "certificate_sha256": sha256,
        "serial_number": serial,
        "svid_not_after": _time(int(not_after)),
        "peer": record.peer,
        "grant_type": record.grant_type,
        "audience": record.audience,
        "application_asked": record.application_asked,
        "scopes_asked": record.scopes_asked.split(),
        "ttl_asked_seconds": None if record.ttl_asked is None else record.ttl_asked / 1_000_000,
        "intent": json.loads(record.intent or "null"),
        **{flag.name.lower(): bool(record.flags & flag) for flag in Flag if flag.name},
        "application": record.application,
        "scopes": record.scopes.split(),
        "scopes_refused": record.scopes_refused.split(),
        "rules": record.rules.split(),
        "policy": record.policy,
        "facts": json.loads(record.facts or "[]"),
        "missing": record.missing.split(),
        "lifetime_seconds": record.lifetime,
        "lifetime_bound": record.lifetime_bound,
        "lifetime_rule": record.lifetime_rule,
        "token_id": record.token_id,
        "expires_at": None if record.expires_at is None else _time(record.expires_at * 1_000_000),
        "token_sha256": record.token_sha256.hex(),
        "audit": json.loads(record.audit or "null"),
        "chain_position": stored.position,
    }


def _line(record: DecisionRecord) -> str:
    outcome = Outcome(record.outcome).name.lower()
    what = record.scopes if record.outcome == Outcome.GRANTED else f"{record.scopes_asked} {record.reason}"
    told = (
        _time(record.time),
        str(UUID(bytes=record.decision_id)),
        f"{outcome:<7}",
        record.caller,
        record.audience,
        what,
    )
    return "  ".join(told)


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return microseconds(SystemClock().now() - parse_duration(text))
    except ValueError as error:
        fail(f"--since: {error}", ExitCode.USAGE)


def _time(time: int) -> str:
    return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
