"""``issuer approvals``: what waits for people, and their answers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli.options import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import IssuerTrustDomain, SpiffeIdOption, connected
from issuer.cli.approval_output import card, document_of, row_of
from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.core.duration import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.cli.admin_client import AdminClient
    from issuer_api.v1 import approval_service_pb2 as pb

_COLUMNS = ("name", "state", "caller", "audience", "scopes", "risk", "reason", "expire_time")
_PAGE = 200
LOOK_SECONDS = 2.0
"""So often a list is looked at again by `watch`."""
MAX_ID_TOKEN = 16 * 1024
"""Characters; the issuer takes no larger one."""

Name = Annotated[str, typer.Argument(help="The name of a request, as `issuer approvals list` shows it.")]
Reason = Annotated[str, typer.Option(help="What you say about it, for those who read it later.")]

approvals_app = typer.Typer(help="Requests that wait for people, and their answers.", no_args_is_help=True)


@approvals_app.command("list")
def list_(
    mine: Annotated[bool, typer.Option("--mine", help="Those that this identity made.")] = False,  # noqa: FBT002
    everyone: Annotated[bool, typer.Option("--all", help="Every one; for viewers and operators.")] = False,  # noqa: FBT002
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List the requests that wait for your answer, the newest first.

    [bold]Example[/bold]

        issuer approvals list
    """
    view = "VIEW_ALL" if everyone else "VIEW_MINE" if mine else "VIEW_TO_DECIDE"
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = list(_pages(client, view))
    rows = [document_of(each) if output is ReportOutput.JSON else row_of(each) for each in found]
    tell_rows(rows, _COLUMNS, output, "nothing waits" if view == "VIEW_TO_DECIDE" else "there is none")


@approvals_app.command()
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
    """Show a request: who, what, why now, its impact, and what else this identity holds.

    [bold]Example[/bold]

        issuer approvals show approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = client.approval_request(name)
    if output is Output.JSON:
        typer.echo(json.dumps(document_of(found.approval_request) | {"living_tokens": found.living_tokens}))
    else:
        typer.echo(card(found))


@approvals_app.command()
def approve(
    name: Name,
    scope: Annotated[
        list[str] | None, typer.Option(help="Only this scope; may be repeated. What you leave out is out.")
    ] = None,
    ttl: Annotated[str | None, typer.Option(help="Let a token live no longer than this, as 30s.")] = None,
    reason: Reason = "",
    id_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An ID token that proves you are a person; `-` for standard input. Shown: its nonce."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether this is meant.")] = False,  # noqa: FBT002
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Approve a request, or less of it. Shows it first, and approves exactly what it showed.

    For SPIFFE IDs that the policy names as approvers. Exit code 1 when it was not approved.

    [bold]Examples[/bold]

        issuer approvals approve approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --reason "seen the ticket"

        issuer approvals approve approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --ttl 30s --yes

        issuer approvals approve approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --id-token-file token.jwt

    [bold]A person[/bold]

    What a person must approve needs an ID token of an issuer that the
    configuration names: sign in anew, with the nonce that `show` tells, and give
    the ID token here. It counts for this request alone, for some minutes.
    """
    from issuer_api.v1 import approval_service_pb2 as pb  # noqa: PLC0415 - takes a while, and others do without

    request = pb.ApproveRequestRequest(name=name, scopes=scope or (), reason=reason)
    if ttl is not None:
        try:
            request.ttl.FromTimedelta(parse_duration(ttl))
        except ValueError as error:
            fail(f"--ttl: {error}", ExitCode.USAGE)
    if id_token_file is not None:
        request.id_token = _id_token(id_token_file)
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = client.approval_request(name)
        if not yes:
            typer.echo(card(found), err=True)
            if not typer.confirm("Approve this?", err=True):
                fail("not approved")
        request.digest = found.approval_request.digest
        _tell(client.approve_request(request), output)


@approvals_app.command()
def deny(
    name: Name,
    reason: Reason,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Deny a request, or take back what was approved; one approver is enough.

    For SPIFFE IDs that the policy names as approvers. Exit code 1 when it was not denied.

    [bold]Example[/bold]

        issuer approvals deny approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --reason "not without a ticket"
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        _tell(client.deny_request(name, reason), output)


@approvals_app.command()
def watch(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each request that waits for your answer, as it comes, until interrupted. JSON is one a line.

    [bold]Example[/bold]

        issuer approvals watch --output json
    """
    told: set[str] = set()
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        while True:
            waiting = {each.name: each for each in _pages(client, "VIEW_TO_DECIDE")}
            for name in sorted(waiting.keys() - told):
                if output is Output.JSON:
                    typer.echo(json.dumps(document_of(waiting[name])))
                else:
                    typer.echo(card(client.approval_request(name)) + "\n")
            told = set(waiting)
            time.sleep(LOOK_SECONDS)


def _id_token(file: Path) -> str:
    """Return what is in the file. No fault shows any of it."""
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="ascii") as source:
            text = source.read(MAX_ID_TOKEN + 1).strip()
    except (OSError, UnicodeError) as error:
        fail(f"--id-token-file: {file} cannot be read: {type(error).__name__}", ExitCode.USAGE)
    if not text or len(text) > MAX_ID_TOKEN:
        fail(f"--id-token-file: {file} has no ID token in it", ExitCode.USAGE)
    return text


def _pages(client: AdminClient, view: str) -> Iterator[pb.ApprovalRequest]:
    from issuer_api.v1 import approval_service_pb2 as pb  # noqa: PLC0415 - takes a while, and others do without

    request = pb.ListApprovalRequestsRequest(view=pb.ListApprovalRequestsRequest.View.Value(view), page_size=_PAGE)
    while True:
        answer = client.list_approval_requests(request)
        yield from answer.approval_requests
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def _tell(request: pb.ApprovalRequest, output: Output) -> None:
    from issuer_api.v1 import approval_service_pb2 as pb  # noqa: PLC0415 - takes a while, and others do without

    if output is Output.JSON:
        typer.echo(json.dumps(document_of(request)))
    else:
        typer.echo(card(pb.GetApprovalRequestResponse(approval_request=request)))
