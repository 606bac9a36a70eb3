"""``issuer revocations list`` and ``lift``: what was revoked, and letting tokens be issued again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import (
    IssuerTrustDomain,
    SpiffeIdOption,
    connected,
)
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.cli.revocation_output import revocation_document, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.cli.admin_client import AdminClient
    from issuer_api.v1 import admin_service_pb2 as pb

_COLUMNS = ("revocation_id", "make_time", "selects", "tokens_hit", "issuance", "reason", "actor")
_PAGE = 1_000

revocations_app = typer.Typer(help="What was revoked.", no_args_is_help=True)


@revocations_app.command("list")
def list_(
    stopping: Annotated[bool, typer.Option("--stopping", help="Only those that stop issuance now.")] = False,  # noqa: FBT002
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List revocations, the newest first.

    For SPIFFE IDs with the role viewer or operator.

    [bold]Example[/bold]

        issuer revocations list --stopping
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        rows = [_row(each) for each in _pages(client, limit, stopping=stopping)]
    tell_rows(rows, _COLUMNS, output, "nothing is revoked")


@revocations_app.command()
def lift(
    revocation_id: Annotated[
        str, typer.Argument(help="The id of a revocation, as `issuer revocations list` shows it.")
    ],
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Let tokens be issued again that a revocation stops; those that it killed stay dead.

    For SPIFFE IDs with the role operator. Exit code 1 when there is no such revocation, or it cannot be lifted.

    [bold]Example[/bold]

        issuer revocations lift 0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        lifted = client.lift_revocation(revocation_id)
    if output is Output.JSON:
        typer.echo(json.dumps({"revocation": revocation_document(lifted)}))
    else:
        typer.echo(f"lifted: {words_of(lifted.selector)}")


def _pages(client: AdminClient, limit: int, *, stopping: bool) -> Iterator[pb.Revocation]:
    from issuer_api.v1 import admin_service_pb2 as pb  # noqa: PLC0415 - takes a while, and other commands do without

    token = ""
    while limit > 0:
        request = pb.ListRevocationsRequest(page_size=min(limit, _PAGE), page_token=token, stopping=stopping)
        answer = client.list_revocations(request)
        yield from answer.revocations
        limit -= len(answer.revocations)
        token = answer.next_page_token
        if not token:
            return


def _row(revocation: pb.Revocation) -> dict[str, object]:
    document = revocation_document(revocation)
    stopped = "stopped" if revocation.stops_issuance else "goes on"
    if revocation.HasField("lift_time"):
        stopped = f"lifted {document['lift_time']}"
    elif revocation.HasField("stop_until"):
        stopped = f"stopped until {document['stop_until']}"
    return {**document, "selects": words_of(revocation.selector), "issuance": stopped}
