"""``issuer decisions denials | shared-identities | unused | top | exceptions``: what many decisions tell together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from issuer.cli.decision_options import SinceOption, UntilOption, time_range
from issuer.cli.failure import fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, reader_of
from issuer.cli.output import ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import load
from issuer.core.denial_advice import changes_for
from issuer.core.identity_use import shared_identities
from issuer.core.instants import microseconds, moment
from issuer.core.unused_rights import unused_rights
from issuer.kept_policies import KeptPolicies
from issuer.ledger import reports
from issuer.ledger.errors import LedgerFault
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.core.reports import Counted

LimitOption = Annotated[int, typer.Option(help="At most so many.", min=1, max=1_000)]


def denials(
    since: SinceOption = "24h",
    until: UntilOption = None,
    limit: LimitOption = 50,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="What to change; without it, the policy that decided.")
    ] = None,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Show what is refused, by caller, audience and reason, and what would have to change for each to be granted.

    The change is worked out for the last request of each group. It is for a person to judge: most refusals are right.

    [bold]Example[/bold]

        issuer decisions denials --since 24h
    """
    begin, end = time_range(since, until)
    reader = reader_of(config, file)
    given = None if policy is None else load(policy)
    try:
        found = reports.denials(reader, since=begin, until=end, limit=limit)
        kept = KeptPolicies(reader)
        rows = [
            {
                "requests": group.requests,
                "caller": group.caller,
                "audience": group.audience,
                "reason": group.reason,
                "scopes": group.newest.scopes_asked,
                "first": _time(group.first),
                "last": _time(group.last),
                "decision_id": str(UUID(bytes=group.newest.decision_id)),
                "change": "; ".join(changes_for(group, given or kept.get(group.newest.policy))),
            }
            for group in found
        ]
    except LedgerFault as fault:
        fail(str(fault))
    columns = ("requests", "caller", "audience", "scopes", "reason", "last", "change")
    tell_rows(rows, columns, output, "nothing was refused")


def shared(
    since: SinceOption = "7d",
    until: UntilOption = None,
    min_score: Annotated[float, typer.Option(help="From 0 to 1.", min=0, max=1)] = 0.3,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Show identities that several programs seem to share, with a score and what speaks for it.

    Replicas of one program ask for the same things, and do not count. What counts: different addresses of one identity
    that ask for different things, and one identity that acts for several applications.

    [bold]Example[/bold]

        issuer decisions shared-identities --since 7d
    """
    begin, end = time_range(since, until)
    try:
        found = shared_identities(reports.uses(reader_of(config, file), since=begin, until=end), min_score)
    except LedgerFault as fault:
        fail(str(fault))
    rows = [
        {
            "score": one.score,
            "caller": one.caller,
            "applications": one.applications,
            "addresses": one.addresses,
            "certificates": one.certificates,
            "certificates_at_once": one.certificates_at_once,
            "difference": one.difference,
            "evidence": [f"{address}: {', '.join(asked)}" for address, asked in one.groups.items()],
            "groups": one.groups,
        }
        for one in found
    ]
    columns = ("score", "caller", "applications", "addresses", "certificates_at_once", "difference", "evidence")
    tell_rows(rows, columns, output, "no identity seems to be shared")


def unused(
    policy: Annotated[Path, typer.Option("--policy", help="The folder or file of the policy.")],
    days: Annotated[int, typer.Option(help="So many days without any use.", min=1)] = 30,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Show grants, and scopes of grants, that nobody used for so many days: ready to be removed.

    [bold]Example[/bold]

        issuer decisions unused --policy policy/ --days 30
    """
    now = SystemClock().now()
    since = microseconds(now - timedelta(days=days))
    reader = reader_of(config, file)
    loaded = load(policy, "36500d")
    try:
        used = reports.granted(reader, since=since, until=microseconds(now) + 1)
        oldest = reports.oldest(reader)
    except LedgerFault as fault:
        fail(str(fault))
    rows = [
        right._asdict() for right in unused_rights(loaded, ((each.audience, each.rules, each.scopes) for each in used))
    ]
    if oldest is None or oldest > since:
        begins = "is empty" if oldest is None else f"begins at {_time(oldest)}"
        typer.echo(f"issuer: the ledger {begins}: what was used before that is not known", err=True)
    tell_rows(rows, ("grant", "audience", "scopes", "whole", "source"), output, "everything was used")


def top(
    since: SinceOption = "24h",
    until: UntilOption = None,
    limit: LimitOption = 10,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Show who asks most, for which audiences, and how many of those tokens are alive.

    [bold]Example[/bold]

        issuer decisions top --since 1h
    """
    begin, end = time_range(since, until)
    now = microseconds(SystemClock().now())
    try:
        found = reports.top(reader_of(config, file), since=begin, until=end, now=now, limit=limit)
    except LedgerFault as fault:
        fail(str(fault))
    rows = [*_counted("caller", found.callers), *_counted("audience", found.audiences)]
    rows += _counted("alive at audience", found.alive)
    tell_rows(rows, ("what", "name", "requests", "last"), output, "no decisions")


def exceptions(
    since: SinceOption = "30d",
    until: UntilOption = None,
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Show how exceptions for legacy applications were used, by whom, and until when their tokens live.

    [bold]Example[/bold]

        issuer decisions exceptions --since 30d
    """
    begin, end = time_range(since, until)
    try:
        found = reports.exception_uses(reader_of(config, file), since=begin, until=end)
    except LedgerFault as fault:
        fail(str(fault))
    rows = [each._asdict() | {"last": _time(each.last), "alive_until": _time(each.alive_until)} for each in found]
    columns = ("rules", "caller", "audience", "requests", "last", "alive_until")
    tell_rows(rows, columns, output, "no exception was used")


def _counted(what: str, counted: list[Counted]) -> list[dict[str, object]]:
    return [{"what": what, "name": each.name, "requests": each.requests, "last": _time(each.last)} for each in counted]


def _time(time: int) -> str:
    return moment(time).isoformat(timespec="seconds").replace("+00:00", "Z")
