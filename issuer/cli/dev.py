"""``issuer dev``: a SPIRE, an issuer and example workloads on this host, to try things out."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail

if TYPE_CHECKING:
    from issuer_testing.development import Development

dev_app = typer.Typer(no_args_is_help=True, help="Try things out on this host. Never for production.")


@dev_app.callback()
def dev() -> None:
    """Keep `up` a sub-command, though it is the only one so far."""


@dev_app.command()
def up(
    source: Annotated[
        str,
        typer.Option(help="Where identities come from: auto, spire (built first where there is none), or embedded."),
    ] = "auto",
) -> None:
    """Start SPIRE, register the example entries, start an issuer, and say how to ask for a token. Ctrl-C ends it all.

    [bold]Example[/bold]

        issuer dev up
        issuer dev up --source spire
    """
    try:
        from issuer_testing.development import Development, Source  # noqa: PLC0415 - an extra of the package
        from issuer_testing.issuer_process import IssuerDidNotStart  # noqa: PLC0415
    except ImportError as error:
        fail(f"{error.name} is missing: pip install 'spiffe-issuer[testing]'", ExitCode.USAGE)
    if source not in set(Source):
        fail(f"--source {source}: one of {', '.join(Source)}", ExitCode.USAGE)
    # SIGTERM ends it as Ctrl-C does, so that nothing is left behind; and Ctrl-C does where a shell started this in the
    # background, which makes it ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Development(Source(source), say=_say) as development:
            typer.echo(how_to_ask(development))
            signal.pause()
    except KeyboardInterrupt:
        _say("stopped; nothing is left behind")
    except (RuntimeError, IssuerDidNotStart) as error:
        fail(str(error))


def how_to_ask(development: Development) -> str:
    """Return what to type in another terminal."""
    settler = development.settler
    return f"""
Ask for a token, in another terminal:

    export SPIFFE_ENDPOINT_SOCKET={settler.socket}
    export SPIFFE_ISSUER_ADDRESS={development.issuer.address}
    spiffe-token get --spiffe-id {settler.spiffe_id} \\
        --audience https://ledger.prod.example --scope ledger.read

Ctrl-C ends everything.
"""


def _say(line: str) -> None:
    typer.echo(line, err=True)
