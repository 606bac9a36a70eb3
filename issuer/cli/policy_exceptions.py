"""``issuer policy exceptions``: who has tokens that outlive its SVID, why, and until when."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, OutputOption, PolicyOption, load, moment
from issuer.core.duration import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.policy import GrantRule, Legacy

_EVERY = "366d"


def exceptions(
    policy: PolicyOption = Path("policy"),
    at: AtOption = None,
    within: Annotated[int | None, typer.Option(help="Only those that end within so many days.", min=0)] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the exceptions for legacy applications, the first to end first; those that have ended are marked.

    [bold]Example[/bold]

        issuer policy exceptions --policy policy/ --within 30
    """
    now = moment(at)
    found = [(rule, rule.legacy) for rule in load(policy, _EVERY).grants if rule.legacy is not None]
    if within is not None:
        found = [(rule, legacy) for rule, legacy in found if legacy.expires <= now + timedelta(days=within)]
    found.sort(key=lambda pair: (pair[1].expires, pair[0].id))
    if output is Output.JSON:
        typer.echo(json.dumps([_document(rule, legacy, now) for rule, legacy in found]))
        return
    if not found:
        typer.echo("no exceptions")
    for rule, legacy in found:
        state = "ended" if legacy.expires <= now else f"{(legacy.expires - now).days} days left"
        typer.echo(f"{rule.id}: until {_text(legacy.expires)}, {state}; at most {format_duration(legacy.max_ttl)}")
        typer.echo(f"  {rule.audience}: {' '.join(sorted(rule.scopes))}")
        typer.echo(f"  {' '.join(pattern.text for pattern in rule.workloads)}")
        typer.echo(f"  {legacy.owner}: {legacy.reason}  {rule.source}")


def _document(rule: GrantRule, legacy: Legacy, now: datetime) -> dict[str, object]:
    return {
        "id": rule.id,
        "workloads": [pattern.text for pattern in rule.workloads],
        "audience": rule.audience,
        "scopes": sorted(rule.scopes),
        "owner": legacy.owner,
        "reason": legacy.reason,
        "expires": _text(legacy.expires),
        "ended": legacy.expires <= now,
        "max_ttl_seconds": legacy.max_ttl // timedelta(seconds=1),
        "source": str(rule.source),
    }


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
