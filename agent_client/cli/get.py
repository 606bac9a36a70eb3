"""``spiffe-token get``: one token, now."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client.cli.approval import token_with_approval
from agent_client.cli.messages import MessageForm, tell, tell_as
from agent_client.cli.option_groups import with_option_groups
from agent_client.cli.options import (  # noqa: TC001 - typer reads the annotations
    ApprovalOptions,
    ConnectionOptions,
    SubjectOptions,
    TokenOptions,
)
from agent_client.cli.printing import print_result
from agent_client.cli.token_forms import (
    DEFAULT_VARIABLE,
    FileForm,
    checked_variable,
    in_form,
    kubernetes_credential,
    kubernetes_version,
    shell_export,
)
from agent_client.cli.waiting import told_when_slow
from agent_client.clock import utc_now
from agent_client.settings import KUBERNETES_EXEC_INFO, from_environment

if TYPE_CHECKING:
    from agent_client import IssuedToken


class TokenOutput(StrEnum):
    """How a token is printed."""

    RAW = "raw"
    JSON = "json"
    HEADER = "header"
    ENV = "env"
    KUBERNETES = "kubernetes"


@with_option_groups
def get(
    *,
    token: TokenOptions,
    subject: SubjectOptions,
    approval: ApprovalOptions,
    connection: ConnectionOptions,
    output: Annotated[
        TokenOutput,
        typer.Option(
            "--output",
            help="The token alone; all that is known about it; an Authorization header; a line for a shell's eval; "
            "or a kubeconfig's ExecCredential.",
        ),
    ] = TokenOutput.RAW,
    env_name: Annotated[
        str, typer.Option("--env-name", metavar="NAME", help="The variable that --output env sets.")
    ] = DEFAULT_VARIABLE,
) -> None:
    """Get one token and print it to standard output. Messages go to standard error.

    [bold]Examples[/bold]

        spiffe-token get --audience https://api.example --scope read
        spiffe-token get --audience https://api.example --scope read --ttl 90s --ticket CHG-17
        spiffe-token get --audience https://api.example --scope read --output json
        curl --oauth2-bearer "$(spiffe-token get --audience https://api.example --scope read)" https://api.example/
        spiffe-token get --audience https://api.example --scope read --output header | curl -H @- https://api.example/
        eval "$(spiffe-token get --audience https://api.example --scope read --output env --env-name API_TOKEN)"

    [bold]On behalf of another[/bold]

    With --subject-token-file, the token is one on behalf of whoever the token in
    the file is about, as far as policy allows (token exchange, RFC 8693). The
    file `-` is standard input.

        spiffe-token get --audience https://api.example --scope read --subject-token-file caller-token

    [bold]Approval[/bold]

        spiffe-token get --audience https://api.example --scope refund --request-approval --reason INC-7 --wait 15m

    Where people have to approve the token, it asks them, tells the name of the
    request to give to them, and waits. Nobody answered in time: exit code 7, and
    the request stays open; ask for the same token again when it is approved.
    Denied: exit code 3.

    [bold]kubectl[/bold]

    With --output kubernetes it is the command of a kubeconfig's exec plugin;
    KUBERNETES_EXEC_INFO tells which version of client.authentication.k8s.io to
    speak. kubectl keeps the token until it expires.

    [bold]Exit codes[/bold]

    As in `spiffe-token --help`. Nothing is printed to standard output unless
    the exit code is 0.
    """
    if output is TokenOutput.JSON:
        tell_as(MessageForm.JSON)
    asked, behalf, (variable, version) = token.arguments(), subject.token(), _checked(env_name, output)
    approved, seconds = asked | approval.arguments(), approval.seconds
    if behalf is not None and approved["request_approval"]:
        raise typer.BadParameter("is not for tokens on behalf of others", param_hint="--request-approval")
    with connection.client() as client:
        if behalf is None:
            issued = token_with_approval(client, approved, seconds)
        else:
            with told_when_slow("waiting for the Workload API and the issuer"):
                issued = client.exchange_token(behalf, **asked)
    if issued.refused_scopes:
        tell("warning", f"not granted: {' '.join(issued.refused_scopes)}", [("decision", issued.decision_id)])
    print_result(_printed(issued, output, variable, version))


def _checked(env_name: str, output: TokenOutput) -> tuple[str, str]:
    """Return the variable and the version of Kubernetes' answer; before anything is asked, which costs a token."""
    try:
        variable = checked_variable(env_name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--env-name") from None
    if output is not TokenOutput.KUBERNETES:
        return variable, ""
    try:
        return variable, kubernetes_version(from_environment(KUBERNETES_EXEC_INFO))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None


def _printed(issued: IssuedToken, output: TokenOutput, variable: str, version: str) -> str:
    if output is TokenOutput.ENV:
        return shell_export(issued, variable)
    if output is TokenOutput.KUBERNETES:
        return kubernetes_credential(issued, version)
    return in_form(FileForm(output), issued, utc_now())
