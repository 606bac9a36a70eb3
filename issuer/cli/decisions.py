"""``issuer decisions``: what was decided, and from what."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from issuer.cli.decision_options import (
    ApplicationOption,
    AudienceOption,
    CallerOption,
    CertificateOption,
    FlagOption,
    GrantTypeOption,
    MaybeSinceOption,
    OutcomeOption,
    PeerOption,
    PolicyDigestOption,
    ReasonOption,
    RuleOption,
    ScopeOption,
    UntilOption,
    decision_filter,
)
from issuer.cli.decisions_replay import replay
from issuer.cli.decisions_reports import denials, exceptions, shared, top, unused
from issuer.cli.failure import fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, reader_of
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.core.instants import moment
from issuer.core.record import Flag, Outcome
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import MAX_LISTED
from issuer.ledger.token_life import life_of

if TYPE_CHECKING:
    from issuer.ledger.reading import LedgerReader, StoredDecision

decisions_app = typer.Typer(help="Read the record of decisions.", no_args_is_help=True)

WATCH_SECONDS = 0.5
_COLUMNS = ("time", "decision_id", "outcome", "reason", "caller", "audience", "scopes_asked", "scopes")


decisions_app.command()(replay)
decisions_app.command()(denials)
decisions_app.command("shared-identities")(shared)
decisions_app.command()(unused)
decisions_app.command()(top)
decisions_app.command()(exceptions)


@decisions_app.callback()
def decisions() -> None:
    """Read the record of decisions."""


@decisions_app.command("list")
def list_decisions(
    since: MaybeSinceOption = None,
    until: UntilOption = None,
    caller: CallerOption = None,
    audience: AudienceOption = None,
    application: ApplicationOption = None,
    scope: ScopeOption = None,
    grant_type: GrantTypeOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    rule: RuleOption = None,
    policy: PolicyDigestOption = None,
    certificate: CertificateOption = None,
    peer: PeerOption = None,
    flag: FlagOption = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=MAX_LISTED)] = 50,
    before: Annotated[int | None, typer.Option(help="The page after the decision with this `seq`.", min=1)] = None,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List decisions, the newest first.

    [bold]Example[/bold]

        issuer decisions list --since 24h --outcome denied --caller 'spiffe://prod.example/ns/payments/**'
    """
    wanted = decision_filter(
        since=since,
        until=until,
        caller=caller,
        audience=audience,
        application=application,
        scope=scope,
        grant_type=grant_type,
        outcome=outcome,
        reason=reason,
        rule=rule,
        policy=policy,
        certificate=certificate,
        peer=peer,
        flag=flag,
    )
    try:
        found = reader_of(config, file).newest(wanted, limit, before)
    except LedgerFault as fault:
        fail(str(fault))
    tell_rows([document_of(stored) for stored in found], _COLUMNS, output, "no decisions")


@decisions_app.command()
def watch(
    caller: CallerOption = None,
    audience: AudienceOption = None,
    application: ApplicationOption = None,
    scope: ScopeOption = None,
    grant_type: GrantTypeOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    rule: RuleOption = None,
    policy: PolicyDigestOption = None,
    certificate: CertificateOption = None,
    peer: PeerOption = None,
    flag: FlagOption = None,
    after: Annotated[int | None, typer.Option(help="Begin after the decision with this `seq`.", min=0)] = None,
    until_seen: Annotated[int | None, typer.Option("--count", help="End after so many.", min=1)] = None,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
) -> None:
    """Print decisions as they are made, a line of JSON each, until interrupted.

    [bold]Example[/bold]

        issuer decisions watch --outcome denied | jq -r '[.caller, .audience, .reason] | @tsv'
    """
    wanted = decision_filter(
        since=None,
        until=None,
        caller=caller,
        audience=audience,
        application=application,
        scope=scope,
        grant_type=grant_type,
        outcome=outcome,
        reason=reason,
        rule=rule,
        policy=policy,
        certificate=certificate,
        peer=peer,
        flag=flag,
    )
    try:
        reader = reader_of(config, file)
        last = reader.last_seq() if after is None else after
        seen = 0
        while until_seen is None or seen < until_seen:
            found = reader.after(wanted, last, MAX_LISTED)[: None if until_seen is None else until_seen - seen]
            for stored in found:
                typer.echo(json.dumps(document_of(stored)))
            seen += len(found)
            last = found[-1].seq if found else last
            if not found:
                Event().wait(WATCH_SECONDS)
    except LedgerFault as fault:
        fail(str(fault))
    except KeyboardInterrupt:
        return


@decisions_app.command()
def show(
    name: Annotated[str, typer.Argument(help="The id of a decision, or the jti of a token.")],
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one decision whole: what was asked, what was known, what came of it, and what became of the token.

    [bold]Example[/bold]

        issuer decisions show 0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    try:
        reader = reader_of(config, file)
        found = [(document_of(stored), _life(reader, stored)) for stored in reader.find(name)]
    except LedgerFault as fault:
        fail(str(fault))
    if not found:
        fail(f"no decision {name} is in this ledger")
    for document, life in found:
        if output is Output.JSON:
            typer.echo(json.dumps(document | {"life": life}))
            continue
        width = max(map(len, document))
        for key, value in document.items():
            if value not in (None, "", [], False):
                typer.echo(f"{key:<{width}}  {_shown(value)}")
        for each in life:
            typer.echo(f"{each['time']}  {each['event']} by {each['actor'] or 'the issuer'}: {_shown(each['detail'])}")


def _life(reader: LedgerReader, stored: StoredDecision) -> list[dict[str, object]]:
    """Return what else happened to the token of a decision, the oldest first."""
    events = life_of(reader, stored.record.token_id) if stored.record.token_id else []
    return [
        {"time": _time(each.time), "event": each.kind, "actor": each.actor, "detail": json.loads(each.detail)}
        for each in events
    ]


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
        "approval": json.loads(record.approval or "null"),
        "origin": json.loads(record.origin or "null"),
        "status": record.status,
        "seq": stored.seq,
        "chain_position": stored.position,
    }


def _time(time: int) -> str:
    return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
