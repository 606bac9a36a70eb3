"""``issuer policy what-can`` and ``who-can``: what a policy lets whom do, without a server."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, CeilingOption, OutputOption, PolicyOption, load, moment
from issuer.core.access import list_access
from issuer.core.caller import Caller
from issuer.core.duration import format_duration
from issuer.core.reach import who_can as rules_about
from issuer.core.spiffe_id import SpiffeId, SpiffeIdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.access import Access, AccessScope
    from issuer.core.policy import GrantRule, Policy


def what_can(
    spiffe_id: Annotated[str, typer.Argument(help="The workload.")],
    policy: PolicyOption = Path("policy"),
    at: AtOption = None,
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what a workload may ask for: the same answer as its own ListAccess would get.

    [bold]Example[/bold]

        issuer policy what-can spiffe://example.org/ns/payments/sa/settler
    """
    try:
        workload = SpiffeId.parse(spiffe_id)
    except SpiffeIdError as error:
        fail(f"{spiffe_id}: {error.message}", ExitCode.USAGE)
    now = moment(at)
    # list_access reads the ID alone; the rest says that nothing was verified here.
    caller = Caller(workload, certificate_sha256=bytes(32), serial_number=0, not_after=now)
    accesses = list_access(load(policy, legacy_max_ttl), caller, {}, now)
    if output is Output.JSON:
        typer.echo(json.dumps({"spiffe_id": spiffe_id, "accesses": [_access_document(access) for access in accesses]}))
        return
    rows = [
        (access.audience, access.application or "", *_scope_cells(scope))
        for access in accesses
        for scope in access.scopes
    ]
    _print(f"{spiffe_id} may ask for", ("audience", "application", "scope", "risk", "at most", "bound", "until"), rows)


def who_can(
    audience: Annotated[str, typer.Argument(help="The audience.")],
    scope: Annotated[str | None, typer.Argument(help="One scope of it; all when left out.")] = None,
    policy: PolicyOption = Path("policy"),
    at: AtOption = None,
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say which workloads grants let in to an audience, and which prohibitions take away from that.

    [bold]Example[/bold]

        issuer policy who-can https://ledger.example.org ledger.write
    """
    loaded = load(policy, legacy_max_ttl)
    _check_declared(loaded, audience, scope)
    found = rules_about(loaded, audience, scope, moment(at))
    if output is Output.JSON:
        grants = [_grant_document(rule, in_force=in_force) for rule, in_force in found.grants]
        prohibitions = [
            {
                "id": rule.id,
                "workloads": [pattern.text for pattern in rule.workloads],
                "scopes": None if rule.scopes is None else sorted(rule.scopes),
                "source": str(rule.source),
            }
            for rule in found.prohibitions
        ]
        typer.echo(json.dumps({"audience": audience, "grants": grants, "prohibitions": prohibitions}))
        return
    rows = [
        (pattern.text, rule.application or "", " ".join(sorted(rule.scopes)), rule.id, "yes" if in_force else "no")
        for rule, in_force in found.grants
        for pattern in rule.workloads
    ]
    _print(f"grants for {audience}", ("workload", "application", "scopes", "grant", "in force"), rows)
    if found.prohibitions:
        taken = [
            (pattern.text, " ".join(sorted(rule.scopes or ["(all)"])), rule.id)
            for rule in found.prohibitions
            for pattern in rule.workloads
        ]
        _print("but not", ("workload", "scopes", "prohibition"), taken)


def _check_declared(policy: Policy, audience: str, scope: str | None) -> None:
    if audience not in policy.audiences:
        fail(f"the policy declares no audience {audience!r}")
    if scope is not None and scope not in policy.audiences[audience].scopes:
        fail(f"the audience {audience!r} declares no scope {scope!r}")


def _scope_cells(scope: AccessScope) -> tuple[str, str, str, str, str]:
    ends = "" if scope.expire_time is None else _text(scope.expire_time)
    return scope.name, scope.risk, format_duration(scope.max_ttl), "yes" if scope.binding_required else "", ends


def _access_document(access: Access) -> dict[str, object]:
    return {
        "audience": access.audience,
        "application": access.application,
        "scopes": [
            {
                "name": scope.name,
                "risk": scope.risk,
                "max_ttl_seconds": scope.max_ttl // timedelta(seconds=1),
                "binding_required": scope.binding_required,
                "expire_time": scope.expire_time and _text(scope.expire_time),
            }
            for scope in access.scopes
        ],
    }


def _grant_document(rule: GrantRule, *, in_force: bool) -> dict[str, object]:
    return {
        "id": rule.id,
        "workloads": [pattern.text for pattern in rule.workloads],
        "application": rule.application,
        "scopes": sorted(rule.scopes),
        "in_force": in_force,
        "source": str(rule.source),
    }


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _print(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns: unlike a drawn table they survive a narrow terminal, a pipe and ``grep``."""
    if not rows:
        typer.echo(f"{title}: nothing")
        return
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    typer.echo(f"{title}:")
    for row in (heads, *rows):
        typer.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
