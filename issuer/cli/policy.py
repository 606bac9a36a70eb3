"""``issuer policy``: look at policy files before the server does, by the same code."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_diff import diff
from issuer.cli.policy_exceptions import exceptions
from issuer.cli.policy_explain import explain
from issuer.cli.policy_format import fmt
from issuer.cli.policy_graph import graph
from issuer.cli.policy_lint import lint
from issuer.cli.policy_loading import CeilingOption, OutputOption, ceiling_of
from issuer.cli.policy_reach import what_can, who_can
from issuer.cli.policy_rollout import reload, rollback, status
from issuer.cli.policy_schema import schema
from issuer.cli.policy_test import run_cases
from issuer.core.policy_faults import PolicyInvalid
from issuer.policy_files.directory import load_policy
from issuer.policy_files.excerpt import excerpt

if TYPE_CHECKING:
    from issuer.core.policy import Policy

policy_app = typer.Typer(help="Check policy files, and see what they allow.", no_args_is_help=True)


@policy_app.callback()
def policy() -> None:
    """Check policy files, and see what they allow."""


@policy_app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The folder of policy files, or one file.")],
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say whether a policy is good, and what is wrong with it: every fault with file, line and column.

    Exit code 0 when it is good, 1 when it has faults, 2 when there is nothing at PATH.

    [bold]Example[/bold]

        issuer policy check policy/
    """
    if not path.exists():
        fail(f"there is nothing at {path}", ExitCode.USAGE)
    try:
        loaded = load_policy(path, legacy_ceiling=ceiling_of(legacy_max_ttl))
    except PolicyInvalid as error:
        _print_faults(path, error, output)
    _print_good(loaded, output)


def _print_good(loaded: Policy, output: Output) -> None:
    counts = {
        "audiences": len(loaded.audiences),
        "grants": len(loaded.grants),
        "prohibitions": len(loaded.prohibitions),
        "limits": len(loaded.limits),
    }
    if output is Output.JSON:
        typer.echo(json.dumps({"ok": True, "digest": loaded.digest, **counts}))
        return
    typer.echo(f"good: {', '.join(f'{count} {what[: -1 if count == 1 else None]}' for what, count in counts.items())}")
    typer.echo(f"digest {loaded.digest}")


def _print_faults(path: Path, error: PolicyInvalid, output: Output) -> NoReturn:
    if output is Output.JSON:
        faults = [{**fault.position._asdict(), "message": fault.message} for fault in error.faults]
        typer.echo(json.dumps({"ok": False, "faults": faults, "more": error.more}))
        raise typer.Exit(int(ExitCode.FAILED))
    for fault in error.faults:
        typer.echo(str(fault))
        if lines := excerpt(path, fault.position):
            typer.echo(lines)
    found = len(error.faults) + error.more
    more = f", the first {len(error.faults)} of them shown" if error.more else ""
    fail(f"the policy has {found} fault{'s' if found > 1 else ''}{more}")


policy_app.command("diff")(diff)
policy_app.command("exceptions")(exceptions)
policy_app.command("explain")(explain)
policy_app.command("fmt")(fmt)
policy_app.command("graph")(graph)
policy_app.command("lint")(lint)
policy_app.command("reload")(reload)
policy_app.command("rollback")(rollback)
policy_app.command("status")(status)
policy_app.command("schema")(schema)
policy_app.command("test")(run_cases)
policy_app.command("what-can")(what_can)
policy_app.command("who-can")(who_can)
