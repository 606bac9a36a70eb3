"""``issuer revoke``: kill tokens, and stop more like them from being issued."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli.options import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import (
    IssuerTrustDomain,
    SpiffeIdOption,
    connected,
)
from issuer.cli.decision_options import moment_of
from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.cli.revocation_output import moment_text, revocation_document, words_of
from issuer.core.duration import parse_duration
from issuer.core.instants import moment
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_api.v1 import admin_service_pb2 as pb

SHOWN = 10
"""So many tokens and identities a person is shown; JSON has all that the issuer names."""


def revoke(
    reason: Annotated[str, typer.Option(help="Why. It is kept in the ledger, for those who read it later.")],
    token: Annotated[str | None, typer.Option(help="One token, by its jti.")] = None,
    basis: Annotated[
        str | None,
        typer.Option("--rests-on", help="approval/ID, intent/ID, access/ID; if delegated subject/SUB, actor/SUB."),
    ] = None,
    workload: Annotated[str | None, typer.Option(help="A SPIFFE ID, or a pattern as policies have them.")] = None,
    application: Annotated[str | None, typer.Option(help="The application that tokens name.")] = None,
    audience: Annotated[str | None, typer.Option(help="Their audience.")] = None,
    rule: Annotated[str | None, typer.Option(help="The id of a grant that gave them.")] = None,
    policy: Annotated[str | None, typer.Option(help="The digest of the policy that decided.")] = None,
    key: Annotated[str | None, typer.Option(help="The kid that signed them; for good.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Every token.")] = False,  # noqa: FBT002
    issued_from: Annotated[str | None, typer.Option(help="Issued since: 2h ago, or 2026-11-01T00:00Z.")] = None,
    issued_until: Annotated[str | None, typer.Option(help="Issued before: as --issued-from.")] = None,
    stop: Annotated[
        bool | None,
        typer.Option("--stop/--no-stop", help="Whether more of them may be issued; where nothing is said, not."),
    ] = None,
    stop_for: Annotated[str | None, typer.Option(help="Let them be issued again after so long, as 2h.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be hit.")] = False,  # noqa: FBT002
    request_id: Annotated[str | None, typer.Option(help="The same again is then one and the same revocation.")] = None,
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = "30s",
    output: OutputOption = Output.TEXT,
) -> None:
    """Kill the tokens that all of the options hit, and stop more like them from being issued until that is lifted.

    For SPIFFE IDs with the role operator. It holds when the command ends with 0: for every later token, in every issuer
    that shares the ledger, and after a restart. Exit code 1 when it is not known to hold; repeat it then.

    Issuance goes on where --token, --everything or an --issued-until that has passed is given, unless --stop says
    otherwise. See what it would hit first, with --dry-run.

    [bold]Examples[/bold]

        issuer revoke --workload 'spiffe://prod.example/ns/payments/**' --reason INC-7 --dry-run

        issuer revoke --workload spiffe://prod.example/ci/runner --audience https://ledger.prod.example --reason INC-7

        issuer revoke --token 5fd3... --reason "seen in a log"
    """
    from issuer_api.v1 import admin_service_pb2 as pb  # noqa: PLC0415 - takes a while, and other commands do without

    selector = pb.TokenSelector(
        token_id=token,
        basis=basis,
        workload=workload,
        application=application,
        audience=audience,
        rule=rule,
        policy=policy,
        key_id=key,
        everything=everything,
    )
    for option, text, field in (
        ("--issued-from", issued_from, selector.issued_from),
        ("--issued-until", issued_until, selector.issued_until),
    ):
        if text is not None:
            field.FromDatetime(moment(moment_of(option, text)))
    request = pb.RevokeRequest(
        selector=selector,
        reason=reason,
        stops_issuance=stop,
        dry_run=dry_run,
        # A repetition after a lost answer must not be a second revocation.
        request_id=request_id or RandomIds().fresh_id(SystemClock().now()),
    )
    if stop_for is not None:
        request.stop_until.FromDatetime(_end_of(stop_for))
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        answer = client.revoke(request)
    if output is Output.JSON:
        typer.echo(json.dumps(_document(answer)))
        return
    for line in _lines(answer):
        typer.echo(line)


def _end_of(duration: str) -> datetime:
    try:
        return SystemClock().now() + parse_duration(duration)
    except (ValueError, OverflowError) as error:
        fail(f"--stop-for: {error}", ExitCode.USAGE)


def _document(answer: pb.RevokeResponse) -> dict[str, object]:
    return {
        "revocation": revocation_document(answer.revocation),
        "tokens": [
            {
                "token_id": token.token_id,
                "caller": token.caller,
                "audience": token.audience,
                "expire_time": moment_text(token.expire_time),
            }
            for token in answer.tokens
        ],
        "identities": [{"caller": each.caller, "tokens": each.tokens} for each in answer.identities],
    }


def _lines(answer: pb.RevokeResponse) -> Iterator[str]:
    revocation = answer.revocation
    tried = not revocation.revocation_id
    yield ("would revoke: " if tried else f"revoked ({revocation.revocation_id}): ") + words_of(revocation.selector)
    yield f"tokens {'that would be' if tried else 'that are'} dead: {revocation.tokens_hit}"
    for each in answer.identities[:SHOWN]:
        yield f"  {each.tokens} of {each.caller}"
    if (more := revocation.identities_hit - min(len(answer.identities), SHOWN)) > 0:
        yield f"  and those of {more} other identities"
    if not revocation.stops_issuance:
        yield "issuance: goes on"
    elif revocation.HasField("stop_until"):
        end = revocation.stop_until.ToDatetime(UTC).isoformat(timespec="seconds")
        yield f"issuance: {'would be ' if tried else ''}stopped until {end}"
    else:
        yield f"issuance: {'would be ' if tried else ''}stopped until it is lifted"
