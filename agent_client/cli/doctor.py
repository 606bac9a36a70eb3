"""``spiffe-token doctor``: why there is no token."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from agent_client.cli.failure import ExitCode
from agent_client.cli.messages import MessageForm, plain, tell_as
from agent_client.cli.option_groups import with_option_groups
from agent_client.cli.options import ConnectionOptions  # noqa: TC001 - typer reads the annotations
from agent_client.cli.printing import print_json, print_result

if TYPE_CHECKING:
    from agent_client.cli.diagnosis.finding import Finding

_STYLES = {"ok": "green", "warning": "bold yellow", "fault": "bold red", "skipped": "dim"}


Audience = Annotated[str | None, typer.Option(help="Get a token for this API too, to see whether policy lets it.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="With --audience: what it should allow there.")]
IssuerUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="The issuer's `iss`: look at its metadata, keys and clock too.")
]
Output = Annotated[MessageForm, typer.Option(help="For people, or for programs.")]


@with_option_groups
def doctor(
    *,
    audience: Audience = None,
    scopes: Scopes = None,
    issuer_url: IssuerUrl = None,
    connection: ConnectionOptions,
    output: Output = MessageForm.TEXT,
) -> None:
    """Walk through everything that a token needs, tell what is wrong, and how to mend it.

    It looks at the Workload API's socket, the SVID and its chain, the trust
    bundle, the issuer's DNS name, each of its addresses by mutual TLS, and
    policy; with --audience at a token and its time, with --issuer-url at what
    resource servers see. It goes on past what does not work. Nothing is
    changed; with --audience one token is issued and thrown away, and --timeout
    counts for each step.

    [bold]Examples[/bold]

        spiffe-token doctor
        spiffe-token doctor --audience https://api.example --scope read --issuer-url https://issuer.example
        spiffe-token doctor --output json

    [bold]Exit codes[/bold]

        0  no fault; there may be warnings
        1  at least one fault
        2  the command line is wrong
    """
    tell_as(output)
    if (audience is None) is not (not scopes):
        raise typer.BadParameter("give --audience and --scope together", param_hint="--audience")
    connection.seconds  # noqa: B018 - a wrong one is told now
    logging.getLogger("agent_client").setLevel(logging.CRITICAL)  # each fault is told once, here
    # Now, and not at the top: it brings gRPC, which --help need not wait for.
    from agent_client.cli.diagnosis.examination import Examination  # noqa: PLC0415

    found = []
    for finding in Examination(connection, audience, tuple(scopes or ()), issuer_url).findings():
        found.append(finding)
        if output is MessageForm.TEXT:
            print_result(_told(finding))
    faults = sum(finding.level == "fault" for finding in found)
    if output is MessageForm.JSON:
        print_json({"healthy": not faults, "findings": [asdict(finding) for finding in found]})
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def _told(finding: Finding) -> str:
    """Return a finding as a line, and its remedy as another; in colours where standard output is a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        level = Text(f"{finding.level.value:8}", _STYLES[finding.level.value])
        console.print(Text.assemble(level, (f"{plain(finding.step)}: ", "bold"), plain(finding.message)))
        if finding.remedy:
            console.print(Text(f"{'':8}-> {plain(finding.remedy)}"))
    return captured.get().rstrip("\n")
