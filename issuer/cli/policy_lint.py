"""``issuer policy lint``: what is allowed and yet worth a look."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, OutputOption, PolicyOption, load, moment
from issuer.config import ConfigError, load_config
from issuer.core.lint import Severity
from issuer.core.lint import lint as findings_of

if TYPE_CHECKING:
    from issuer.config_sections import Config
    from issuer.core.lint import Finding

_EVERY_EXCEPTION = "366d"
_ORDER = tuple(Severity)


def lint(
    policy: PolicyOption = Path("policy"),
    at: AtOption = None,
    within: Annotated[int, typer.Option(help="Tell what ends within so many days.", min=0)] = 30,
    config: Annotated[
        Path | None, typer.Option(help="The issuer's configuration: tells which facts somebody feeds.")
    ] = None,
    fail_on: Annotated[Severity, typer.Option(help="Exit with 1 from this severity on.")] = Severity.ERROR,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what is allowed and yet worth a look: rules that do nothing, speak of everyone, end soon, or nobody owns.

    [bold]Example[/bold]

        issuer policy lint --policy policy/ --config issuer.toml --fail-on warning
    """
    loaded = load(policy, _EVERY_EXCEPTION)
    settings = None if config is None else _loaded(config)
    found = findings_of(
        loaded,
        moment(at),
        within=timedelta(days=within),
        fed=_fed(settings),
        proves_people=None if settings is None else bool(settings.approvals.evidence),
    )
    if output is Output.JSON:
        typer.echo(json.dumps([_document(finding) for finding in found]))
    else:
        for finding in found:
            typer.echo(f"{finding.position}: {finding.severity}: {finding.message} [{finding.check}]")
        typer.echo(f"{len(found)} findings")
    if any(_ORDER.index(finding.severity) >= _ORDER.index(fail_on) for finding in found):
        raise typer.Exit(int(ExitCode.FAILED))


def _loaded(config: Path) -> Config:
    try:
        return load_config(config, {})
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)


def _fed(loaded: Config | None) -> frozenset[str] | None:
    """Return the types that the configuration lets somebody feed; ``None`` where that cannot be known."""
    if loaded is None:
        return None
    if loaded.facts.folder is not None:
        return None  # whoever writes into the folder may tell every type
    feeders = (*loaded.admin.feeders.values(), *(source.types for source in loaded.facts.authzen))
    return frozenset(name for types in feeders for name in types)


def _document(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        **finding.position._asdict(),
        "message": finding.message,
    }
