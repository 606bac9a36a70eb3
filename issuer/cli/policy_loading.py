"""What the commands about policy files have in common: their options, and a policy or a readable end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.core.duration import parse_duration
from issuer.core.policy_faults import PolicyInvalid
from issuer.policy_files.directory import load_policy
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.core.policy import Policy

PolicyOption = Annotated[Path, typer.Option("--policy", "-p", help="The folder of policy files, or one file.")]
AtOption = Annotated[datetime | None, typer.Option("--at", help="The moment to look at, in UTC; now when left out.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]
CeilingOption = Annotated[
    str | None, typer.Option(help="What the configuration allows exceptions, as 4h; without it there can be none.")
]


def load(path: Path, legacy_max_ttl: str | None = None) -> Policy:
    """Return the policy at ``path``, or end the command."""
    try:
        return load_policy(path, legacy_ceiling=ceiling_of(legacy_max_ttl))
    except PolicyInvalid as error:
        fail(f"{error}\nrun `issuer policy check {path}`")


def ceiling_of(legacy_max_ttl: str | None) -> timedelta | None:
    """Return the longest lifetime of an exception, or end the command."""
    try:
        return None if legacy_max_ttl is None else parse_duration(legacy_max_ttl)
    except ValueError as error:
        fail(f"--legacy-max-ttl: {error}", ExitCode.USAGE)


def moment(at: datetime | None) -> datetime:
    """Return the moment that a command looks at."""
    return at.replace(tzinfo=UTC) if at else SystemClock().now()
