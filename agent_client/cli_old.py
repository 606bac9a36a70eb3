"""``spiffe-token``: tokens for programs in any language. A token goes to standard output, every message does not."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from agent_client import errors
from agent_client.clock import utc_now
from agent_client.durations import parse_duration
from agent_client.endpoint import ISSUER_DNS_NAME
from agent_client.settings import SPIFFE_ENDPOINT_SOCKET, SPIFFE_ISSUER_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from agent_client import IssuedToken

# gRPC's own log would stand between our messages. It reads this when it is imported, which happens in a command.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 - set here, read by gRPC

HELP = """Get tokens from spiffe-issuer, as the workload that SPIRE knows this process as.

[bold]Example[/bold]

    export SPIFFE_ENDPOINT_SOCKET=unix:///run/spire/agent.sock
    export SPIFFE_ISSUER_ADDRESS=issuer.prod.example:8443
    spiffe-token get --audience https://api.example --scope read

[bold]Exit codes[/bold]

    0  done
    1  anything that is not below
    2  the command line, the environment or the request is wrong
    3  denied by policy
    4  not authenticated: this workload to the issuer, or the issuer to it
    5  the issuer or the Workload API is unavailable, or has no such identity
"""


class ExitCode(IntEnum):
    """What the exit code of a command means; ``HELP`` tells the user."""

    FAILED = 1
    USAGE = 2
    DENIED = 3
    NOT_AUTHENTICATED = 4
    UNAVAILABLE = 5


class Output(StrEnum):
    """How a token is printed."""

    RAW = "raw"
    JSON = "json"


EXIT_CODES: dict[type[errors.IssuerRequestError], ExitCode] = {
    errors.InvalidTokenRequest: ExitCode.USAGE,
    errors.AccessDenied: ExitCode.DENIED,
    errors.NotAuthenticated: ExitCode.NOT_AUTHENTICATED,
    errors.IssuerNotTrusted: ExitCode.NOT_AUTHENTICATED,
    errors.IssuerUnavailable: ExitCode.UNAVAILABLE,
}
"""For an error and its subclasses; the others end with ``FAILED``."""

app = typer.Typer(
    name="spiffe-token",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def spiffe_token() -> None:
    """Keep ``get`` a sub-command, though it is the only one so far."""


Audience = Annotated[str, typer.Option(help="The one API that the token is for, exactly as policy names it.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="What it should allow there. Repeat it for several.")]
Ttl = Annotated[
    str | None, typer.Option(metavar="DURATION", help="The lifetime, as in 90s or 5m; policy may shorten it.")
]
Application = Annotated[str | None, typer.Option(help="On whose behalf, where this workload serves several.")]
Bind = Annotated[bool, typer.Option("--bind", help="Bind the token to this workload's certificate.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Take the scopes that are granted rather than all or nothing.")
]
Issuer = Annotated[
    str | None, typer.Option(envvar=SPIFFE_ISSUER_ADDRESS, metavar="HOST:PORT", help="Where the issuer is.")
]
IssuerName = Annotated[str, typer.Option(metavar="DNS", help="The DNS name of the issuer's registration entry.")]
IssuerTrustDomain = Annotated[
    str | None, typer.Option(metavar="NAME", help="The issuer's trust domain, where it is not this workload's.")
]
Socket = Annotated[
    str | None, typer.Option(envvar=SPIFFE_ENDPOINT_SOCKET, metavar="unix:///PATH", help="Where the Workload API is.")
]
SpiffeId = Annotated[
    str | None, typer.Option(metavar="ID", help="Which identity to use, where this process has several.")
]
Timeout = Annotated[str, typer.Option(metavar="DURATION", help="How long to try.")]
OutputForm = Annotated[Output, typer.Option(help="The token alone, or all that is known about it.")]


@app.command()
def get(
    *,
    audience: Audience,
    scopes: Scopes,
    ttl: Ttl = None,
    application: Application = None,
    bind: Bind = False,
    allow_partial: AllowPartial = False,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeId = None,
    timeout: Timeout = "10s",
    output: OutputForm = Output.RAW,
) -> None:
    """Get one token and print it to standard output. Messages go to standard error.

    [bold]Examples[/bold]

        spiffe-token get --audience https://api.example --scope read
        spiffe-token get --audience https://api.example --scope read --ttl 90s
        spiffe-token get --audience https://api.example --scope read --output json
        TOKEN=$(spiffe-token get --audience https://api.example --scope read)
        curl --oauth2-bearer "$TOKEN" https://api.example/entries
    """
    lifetime = _duration("--ttl", ttl) if ttl is not None else None
    seconds = _duration("--timeout", timeout).total_seconds()
    # Now, and not at the top: it takes a third of a second that --help need not pay.
    from agent_client import SyncIssuerClient  # noqa: PLC0415

    with SyncIssuerClient(
        issuer,
        workload_api=socket,
        spiffe_id=spiffe_id,
        issuer_dns_name=issuer_name,
        issuer_trust_domain=issuer_trust_domain,
        timeout=seconds,
    ) as client:
        issued = client.issue_token(
            audience,
            scopes,
            ttl=lifetime,
            application=application,
            bind_certificate=bind,
            allow_partial=allow_partial,
        )
    if issued.refused_scopes:
        _say("warning", f"not granted: {' '.join(issued.refused_scopes)}", [("decision", issued.decision_id)])
    print(_printed(issued, output), flush=True)  # noqa: T201 - this is the command's product


def _duration(option: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def main() -> NoReturn:
    """Run the command line. Whatever happens, the user gets a message and an exit code, never a traceback."""
    # Ctrl-C ends the process on the spot, also while it waits for a lock; there is nothing to tidy up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(format="warning: %(message)s", level=logging.ERROR)
    try:
        app()
    except errors.IssuerRequestError as error:
        _fail_request(error)
    except errors.ClientNotConfigured as error:
        _fail(ExitCode.USAGE, str(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence
        _fail_otherwise(error)
    sys.exit()


def _printed(issued: IssuedToken, output: Output) -> str:
    if output is Output.RAW:
        return issued.token.reveal()
    return json.dumps(
        {
            "access_token": issued.token.reveal(),
            "token_type": issued.token_type,
            "expires_in": max(int((issued.expires_at - utc_now()).total_seconds()), 0),
            "expires_at": issued.expires_at.isoformat(),
            "renew_at": issued.renew_at.isoformat(),
            "scope": " ".join(issued.scopes),
            "refused_scopes": list(issued.refused_scopes),
            "token_id": issued.token_id,
            "decision_id": issued.decision_id,
            "application": issued.application,
        },
        indent=2,
    )


def _fail_request(error: errors.IssuerRequestError) -> NoReturn:
    code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
    details = [
        *((violation.field, violation.description) for violation in error.violations),
        ("reason", error.reason),
        ("decision", error.decision_id),
        ("request", error.request_id),
        ("remedy", error.remedy),
    ]
    _fail(code, error.message, details)


def _fail_otherwise(error: Exception) -> NoReturn:
    from agent_client import WorkloadApiError, WorkloadApiNotConfigured  # noqa: PLC0415 - as in get()

    if isinstance(error, WorkloadApiNotConfigured):
        _fail(ExitCode.USAGE, str(error))
    if isinstance(error, WorkloadApiError):
        _fail(ExitCode.UNAVAILABLE, str(error))
    _fail(ExitCode.FAILED, f"spiffe-token has a defect: {type(error).__name__}: {error}")


def _fail(code: ExitCode, message: str, details: Sequence[tuple[str, str | None]] = ()) -> NoReturn:
    _say("error", message, details)
    sys.exit(code)


def _say(kind: str, message: str, details: Sequence[tuple[str, str | None]] = ()) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    style = "bold red" if kind == "error" else "bold yellow"
    console.print(Text.assemble((f"{kind}: ", style), _plain(message)))
    for name, value in details:
        if value:
            console.print(Text.assemble((f"  {_plain(name)}: ", "bold"), _plain(value)))


def _plain(text: str) -> str:
    """Return ``text`` without what a terminal would obey: some of it came over the network."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
