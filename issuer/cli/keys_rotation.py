"""``issuer keys list``, ``prepare``, ``activate`` and ``remove``: the keys of a running issuer, as an operator."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli.options import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import (
    IssuerTrustDomain,
    SpiffeIdOption,
    connected,
)
from issuer.cli.failure import fail
from issuer.cli.output import Output, ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer_api.v1 import admin_service_pb2 as pb

_TIMES = ("publish_time", "ready_time", "activate_time", "retire_time", "over_time", "remove_time")
_COLUMNS = ("kid", "state", *_TIMES)


def list_(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """List the signing keys of a running issuer: next, active, retired, and those that are gone.

    For SPIFFE IDs with the role viewer or operator. Exit code 1 when it cannot be told.

    [bold]Example[/bold]

        issuer keys list --output json
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        rows = [_row(each) for each in client.list_keys()]
    tell_rows(rows, _COLUMNS, output, "there is no key")


def prepare(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the next signing key and publish it. It does not sign yet; where there is one already, nothing is changed.

    For SPIFFE IDs with the role operator. Prints from when on it can be activated.

    [bold]Example[/bold]

        issuer keys prepare
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        keys = client.prepare_key()
    _tell(next((each for each in keys if _state(each) == "next"), None), output)


def activate(
    key_id: Annotated[str | None, typer.Argument(metavar="[KID]", help="The next key; it may be left out.")] = None,
    force: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--force",
            help="Do not wait until every verifier can know the key: verifiers that do not look for new keys at once "
            "refuse its tokens for a while. For a key that may be known to others.",
        ),
    ] = False,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Let the next key sign, in every worker. The one before signs no more, and its tokens stay good until they expire.

    For SPIFFE IDs with the role operator. Exit code 1 while verifiers may not know the key; the message says
    until when.

    [bold]Examples[/bold]

        issuer keys activate

        issuer keys activate --force && issuer revoke --key OLD_KID --reason INC-7
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        wanted = key_id or _only_next(client.list_keys())
        if force:
            typer.echo("issuer: by force: verifiers that know the key set of before may refuse new tokens", err=True)
        keys = client.activate_key(wanted, force=force)
    _tell(_named(keys, wanted), output)


def remove(
    key_id: Annotated[str, typer.Argument(metavar="KID", help="The key, as `issuer keys list` shows it.")],
    force: Annotated[  # noqa: FBT002
        bool, typer.Option("--force", help="Though tokens that it signed may be alive: verifiers will refuse them.")
    ] = False,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Publish a key no more: the next one, or a retired one, which goes by itself when its tokens are over.

    For SPIFFE IDs with the role operator. Exit code 1 for the active key, and while tokens of a retired one may live.

    [bold]Example[/bold]

        issuer keys remove 0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbW
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        keys = client.remove_key(key_id, force=force)
    _tell(_named(keys, key_id), output, instead={"kid": key_id, "state": "gone"})


def _only_next(keys: Sequence[pb.SigningKey]) -> str:
    found = [each.key_id for each in keys if _state(each) == "next"]
    return found[0] if found else fail("there is no next key; `issuer keys prepare` makes one")


def _named(keys: Sequence[pb.SigningKey], key_id: str) -> pb.SigningKey | None:
    return next((each for each in keys if each.key_id == key_id), None)


def _tell(key: pb.SigningKey | None, output: Output, *, instead: dict[str, str | None] | None = None) -> None:
    row = _row(key) if key else instead or {}
    if output is Output.JSON:
        typer.echo(json.dumps(row))
        return
    known = {name: value for name, value in row.items() if value}
    typer.echo("\n".join(f"{name.removesuffix('_time'):10} {value}" for name, value in known.items()))


def _row(key: pb.SigningKey) -> dict[str, str | None]:
    times = {name: _text(getattr(key, name)) if key.HasField(name) else None for name in _TIMES}  # type: ignore[arg-type]
    return {"kid": key.key_id, "state": _state(key), **times}


def _state(key: pb.SigningKey) -> str:
    from issuer_api.v1 import admin_service_pb2 as pb  # noqa: PLC0415 - as in admin_connection.py

    return pb.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower()


def _text(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
