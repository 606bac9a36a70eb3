"""``issuer intents``: what workloads let others do later, for operators and viewers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli.options import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import IssuerTrustDomain, SpiffeIdOption, connected
from issuer.cli.intent_output import card, document_of, row_of
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.cli.admin_client import AdminClient
    from issuer_api.v1 import intent_service_pb2 as pb

_COLUMNS = ("name", "state", "registrar", "consumer", "audience", "operation", "uses_left", "expire_time")
_PAGE = 200

Name = Annotated[str, typer.Argument(help="The name of an intent, as `issuer intents list` shows it.")]

intents_app = typer.Typer(help="What workloads let others do later, once.", no_args_is_help=True)


@intents_app.command("list")
def list_(
    expired: Annotated[bool, typer.Option("--expired", help="Those that nobody redeemed in time.")] = False,  # noqa: FBT002
    mine: Annotated[  # noqa: FBT002
        bool, typer.Option("--mine", help="Those that this identity registered or may redeem.")
    ] = False,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List intents, the newest first. One that expired is listed for a day; the ledger has it for longer.

    For viewers and operators; with [bold]--mine[/bold] for everybody.

    [bold]Examples[/bold]

        issuer intents list --expired

        issuer intents list --mine --output json
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        found = list(_pages(client, "VIEW_MINE" if mine else "VIEW_ALL", "STATE_EXPIRED" if expired else None))
    rows = [document_of(each) if output is ReportOutput.JSON else row_of(each) for each in found]
    tell_rows(rows, _COLUMNS, output, "there is none")


@intents_app.command()
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
    """Show an intent: who lets whom do what, until when, and what became of it.

    [bold]Example[/bold]

        issuer intents show intents/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        _tell(client.intent(name), output)


@intents_app.command()
def cancel(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")],
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Take an intent back, so that it is not redeemed any more. Tokens that came of it live on.

    For who registered it, and for operators. To kill its tokens too, use [bold]issuer revoke --rests-on[/bold].
    Exit code 1 when it was not taken back.

    [bold]Example[/bold]

        issuer intents cancel intents/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55 --reason "wrong batch"
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        _tell(client.take_back_intent(name, reason), output)


def _pages(client: AdminClient, view: str, state: str | None) -> Iterator[pb.RegisteredIntent]:
    from issuer_api.v1 import intent_service_pb2 as pb  # noqa: PLC0415 - takes a while, and others do without

    request = pb.ListIntentsRequest(view=pb.ListIntentsRequest.View.Value(view), page_size=_PAGE)
    if state is not None:
        request.state = pb.RegisteredIntent.State.Value(state)
    while True:
        answer = client.page_of_intents(request)
        yield from answer.intents
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def _tell(intent: pb.RegisteredIntent, output: Output) -> None:
    typer.echo(json.dumps(document_of(intent)) if output is Output.JSON else card(intent))
