"""The options by which commands say which token they want, and from whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta  # noqa: TC003 - read at run time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_client.cli.messages import MessageForm
from agent_client.cli.token_reading import read_text, token_in
from agent_client.durations import parse_duration
from agent_client.endpoint import ISSUER_DNS_NAME
from agent_client.settings import SPIFFE_ENDPOINT_SOCKET, SPIFFE_ISSUER_ADDRESS

if TYPE_CHECKING:
    from agent_client import Intent, SubjectToken, SyncIssuerClient

_TOKEN = "The token"  # noqa: S105 - the title of a panel
_INTENT = "What it is for, where policy asks"
_SUBJECT = "On behalf of another"
_APPROVAL = "Where people have to approve it"
_CONNECTION = "Where from"


class SubjectKind(StrEnum):
    """What a subject token is."""

    ACCESS_TOKEN = "access-token"  # noqa: S105 - a word
    JWT_SVID = "jwt-svid"
    ID_TOKEN = "id-token"  # noqa: S105


Audience = Annotated[
    str, typer.Option(help="The one API that the token is for, exactly as policy names it.", rich_help_panel=_TOKEN)
]
Scopes = Annotated[
    list[str],
    typer.Option("--scope", help="What it should allow there. Repeat it for several.", rich_help_panel=_TOKEN),
]
Ttl = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="The lifetime, as in 90s or 5m; policy may shorten it.", rich_help_panel=_TOKEN
    ),
]
Application = Annotated[
    str | None, typer.Option(help="On whose behalf, where this workload serves several.", rich_help_panel=_TOKEN)
]
Bind = Annotated[
    bool, typer.Option("--bind", help="Bind the token to this workload's certificate.", rich_help_panel=_TOKEN)
]
AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial", help="Take the scopes that are granted rather than all or nothing.", rich_help_panel=_TOKEN
    ),
]
Operation = Annotated[str | None, typer.Option(help="What will be done, as in settle-batch.", rich_help_panel=_INTENT)]
Resource = Annotated[str | None, typer.Option(help="To what.", rich_help_panel=_INTENT)]
Workflow = Annotated[str | None, typer.Option(help="The automation that it is a part of.", rich_help_panel=_INTENT)]
Ticket = Annotated[str | None, typer.Option(help="The change ticket.", rich_help_panel=_INTENT)]
Transaction = Annotated[str | None, typer.Option(help="The transaction id.", rich_help_panel=_INTENT)]
SubjectTokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file with the token of whom this workload acts for; - is standard input.",
        rich_help_panel=_SUBJECT,
    ),
]
SubjectTokenKind = Annotated[
    SubjectKind, typer.Option("--subject-token-type", help="What that token is.", rich_help_panel=_SUBJECT)
]
RequestApproval = Annotated[
    bool,
    typer.Option(
        "--request-approval", help="Ask people, where they have to approve this token.", rich_help_panel=_APPROVAL
    ),
]
ApprovalReason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Why it is needed now, for those who decide.", rich_help_panel=_APPROVAL
    ),
]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait",
        metavar="DURATION",
        help="How long to wait for their answer, as in 15m. Without it, nothing is waited for.",
        rich_help_panel=_APPROVAL,
    ),
]
Issuer = Annotated[
    str | None,
    typer.Option(
        envvar=SPIFFE_ISSUER_ADDRESS,
        metavar="HOST:PORT[,...]",
        help="Where the issuer is; several addresses with commas between.",
        rich_help_panel=_CONNECTION,
    ),
]
IssuerName = Annotated[
    str,
    typer.Option(metavar="DNS", help="The DNS name of the issuer's registration entry.", rich_help_panel=_CONNECTION),
]
IssuerTrustDomain = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The issuer's trust domain, where it is not this workload's.",
        rich_help_panel=_CONNECTION,
    ),
]
Socket = Annotated[
    str | None,
    typer.Option(
        envvar=SPIFFE_ENDPOINT_SOCKET,
        metavar="unix:///PATH",
        help="Where the Workload API is.",
        rich_help_panel=_CONNECTION,
    ),
]
SpiffeId = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="Which identity to use, where this process has several.", rich_help_panel=_CONNECTION
    ),
]
Timeout = Annotated[str, typer.Option(metavar="DURATION", help="How long to try.", rich_help_panel=_CONNECTION)]
Messages = Annotated[
    MessageForm,
    typer.Option("--output", help="How to tell what happens, on standard error: text, or a line of JSON each."),
]


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """One token, as a command line asks for it."""

    audience: Audience
    scopes: Scopes
    ttl: Ttl = None
    application: Application = None
    bind: Bind = False
    allow_partial: AllowPartial = False
    operation: Operation = None
    resource: Resource = None
    workflow: Workflow = None
    ticket: Ticket = None
    transaction: Transaction = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``tokens_for``.

        Raises:
            typer.BadParameter: The lifetime is none.
        """
        return {
            "audience": self.audience,
            "scopes": self.scopes,
            "ttl": None if self.ttl is None else duration("--ttl", self.ttl),
            "application": self.application,
            "bind_certificate": self.bind,
            "allow_partial": self.allow_partial,
            "intent": self._intent(),
        }

    @property
    def has_intent(self) -> bool:
        """Whether it says what the token is for."""
        return any(value is not None for value in self._told_intent().values())

    def _intent(self) -> Intent | None:
        if not self.has_intent:
            return None
        from agent_client import Intent  # noqa: PLC0415 - brings protobuf, which --help need not wait for

        return Intent(**self._told_intent())

    def _told_intent(self) -> dict[str, str | None]:
        return {
            "operation": self.operation,
            "resource": self.resource,
            "workflow": self.workflow,
            "ticket": self.ticket,
            "transaction": self.transaction,
        }


@dataclass(frozen=True, slots=True)
class SubjectOptions:
    """On whose behalf a token is, as a command line says it."""

    subject_token_file: SubjectTokenFile = None
    subject_token_type: SubjectTokenKind = SubjectKind.ACCESS_TOKEN

    def token(self) -> SubjectToken | None:
        """Return the subject token; ``None`` where the workload acts for itself.

        Raises:
            CommandFailed: The file cannot be read, or has no token.
        """
        file = self.subject_token_file
        if file is None:
            return None
        from agent_client import SubjectToken, SubjectTokenType  # noqa: PLC0415 - as above

        text = token_in(read_text(None if file == Path("-") else file))
        return SubjectToken(text, SubjectTokenType[self.subject_token_type.name])


@dataclass(frozen=True, slots=True)
class ApprovalOptions:
    """What to do where people have to approve a token."""

    request_approval: RequestApproval = False
    reason: ApprovalReason = None
    wait: Wait = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``issue_token``.

        Raises:
            typer.BadParameter: Something belongs to ``--request-approval``, which is not there.
        """
        for option, value in (("--reason", self.reason), ("--wait", self.wait)):
            if value is not None and not self.request_approval:
                raise typer.BadParameter("goes with --request-approval", param_hint=option)
        return {"request_approval": self.request_approval, "approval_reason": self.reason or ""}

    @property
    def seconds(self) -> float:
        """How long to wait; nothing for not at all.

        Raises:
            typer.BadParameter: It is no duration.
        """
        return 0.0 if self.wait is None else duration("--wait", self.wait).total_seconds()


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """The issuer and the Workload API, as a command line names them."""

    issuer: Issuer = None
    issuer_name: IssuerName = ISSUER_DNS_NAME
    issuer_trust_domain: IssuerTrustDomain = None
    socket: Socket = None
    spiffe_id: SpiffeId = None
    timeout: Timeout = "10s"

    @property
    def seconds(self) -> float:
        """How long to try.

        Raises:
            typer.BadParameter: It is no duration.
        """
        return duration("--timeout", self.timeout).total_seconds()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a client, the address by its own name."""
        return {
            "address": self.issuer,
            "workload_api": self.socket,
            "spiffe_id": self.spiffe_id,
            "issuer_dns_name": self.issuer_name,
            "issuer_trust_domain": self.issuer_trust_domain,
            "timeout": self.seconds,
        }

    def client(self) -> SyncIssuerClient:
        """Return a client; nothing is called yet.

        Raises:
            ClientNotConfigured: Something is missing or malformed.
        """
        # Now, and not at the top: it takes a third of a second that --help need not pay.
        from agent_client import SyncIssuerClient  # noqa: PLC0415

        return SyncIssuerClient(**self.arguments())


def duration(option: str, text: str) -> timedelta:
    """Return what an option says.

    Raises:
        typer.BadParameter: It is no duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
