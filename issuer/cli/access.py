"""``issuer access``: who has access just in time, for how long and why, and ending it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli.options import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.access_output import card, document_of, row_of
from issuer.cli.admin_connection import IssuerTrustDomain, SpiffeIdOption, connected
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.cli.admin_client import AdminClient
    from issuer_api.v1 import access_service_pb2 as pb

_COLUMNS = ("name", "state", "caller", "audience", "scopes", "reason", "expire_time")
_PAGE = 200
LOOK_SECONDS = 2.0
"""So often `watch` looks at the list again."""

Name = Annotated[str, typer.Argument(help="The name of a window, as `issuer access list` shows it.")]

access_app = typer.Typer(help="Access just in time: who has it, and ending it.", no_args_is_help=True)


@access_app.command("list")
def list_(
    mine: Annotated[bool, typer.Option("--mine", help="Those of this identity.")] = False,  # noqa: FBT002
    ended: Annotated[bool, typer.Option("--ended", help="Those too that ended lately.")] = False,  # noqa: FBT002
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List open windows of access, the newest first.

    For SPIFFE IDs with the role viewer or operator; everybody sees their own with --mine.

    [bold]Example[/bold]

        issuer access list --ended
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = list(_pages(client, mine=mine, open_only=not ended))
    rows = [document_of(each) if output is ReportOutput.JSON else row_of(each) for each in found]
    tell_rows(rows, _COLUMNS, output, "nobody has access just in time")


@access_app.command()
def show(
    name: Name,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a window of access: who, what, why, for how long, and how it ended.

    [bold]Example[/bold]

        issuer access show accessWindows/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = client.access_window(name)
    if output is Output.JSON:
        typer.echo(json.dumps(document_of(found.access_window) | {"living_tokens": found.living_tokens}))
    else:
        typer.echo(card(found.access_window, found.living_tokens))


@access_app.command()
def end(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for those who read the ledger.")],
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """End a window of access; its tokens are dead when this returns. One that is over stays as it is.

    For SPIFFE IDs with the role operator. Exit code 1 when it was not ended.

    [bold]Example[/bold]

        issuer access end accessWindows/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --reason "the incident is over"
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        ended = client.end_access(name, reason)
    typer.echo(json.dumps(document_of(ended)) if output is Output.JSON else card(ended, 0))


@access_app.command()
def watch(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each window of access as it is opened and as it ends, until interrupted. JSON is one a line.

    For SPIFFE IDs with the role viewer or operator.

    [bold]Example[/bold]

        issuer access watch --output json
    """
    told: dict[str, int] = {}
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        while True:
            windows = list(_pages(client, mine=False, open_only=False))
            for window in reversed(windows):
                if told.get(window.name) != window.state:
                    typer.echo(json.dumps(document_of(window)) if output is Output.JSON else card(window, 0) + "\n")
            told = {window.name: window.state for window in windows}
            time.sleep(LOOK_SECONDS)


def _pages(client: AdminClient, *, mine: bool, open_only: bool) -> Iterator[pb.AccessWindow]:
    from issuer_api.v1 import access_service_pb2 as pb  # noqa: PLC0415 - takes a while, and others do without

    view = pb.ListAccessWindowsRequest.VIEW_MINE if mine else pb.ListAccessWindowsRequest.VIEW_ALL
    request = pb.ListAccessWindowsRequest(view=view, open_only=open_only, page_size=_PAGE)
    while True:
        answer = client.list_access_windows(request)
        yield from answer.access_windows
        request.page_token = answer.next_page_token
        if not request.page_token:
            return
