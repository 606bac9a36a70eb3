"""``issuer policy status``, ``reload`` and ``rollback``: the policy of a running issuer, asked as an operator."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client import ISSUER_DNS_NAME
from agent_client.cli import Issuer, IssuerName, Socket, Timeout  # noqa: TC001 - typer reads the annotations
from issuer.cli.admin_connection import (
    IssuerTrustDomain,
    SpiffeIdOption,
    connected,
)
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer_api.v1 import admin_service_pb2 as pb

_TIMEOUT = "60s"  # a reload of 100,000 grants takes a while


def status(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = _TIMEOUT,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say which policy a running issuer has in force, which it keeps, and why the last load was refused.

    For SPIFFE IDs with the role viewer or operator. Exit code 1 when it cannot be told.

    [bold]Example[/bold]

        issuer policy status --issuer issuer.prod.example:8443
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        answer = client.policy_status()
    if output is Output.JSON:
        typer.echo(json.dumps(_status_document(answer)))
        return
    for line in _status_lines(answer):
        typer.echo(line)


def reload(
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = _TIMEOUT,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a running issuer load its policy's files now, and follow them again after a rollback.

    For SPIFFE IDs with the role operator. A policy with faults changes nothing; exit code 1, with its faults.

    [bold]Example[/bold]

        issuer policy reload --issuer issuer.prod.example:8443
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        current = client.reload_policy()
    _print_in_force(current, output)


def rollback(
    digest: Annotated[str, typer.Argument(help="The digest of a kept policy, as `issuer policy status` prints it.")],
    issuer: Issuer = None,
    issuer_name: IssuerName = ISSUER_DNS_NAME,
    issuer_trust_domain: IssuerTrustDomain = None,
    socket: Socket = None,
    spiffe_id: SpiffeIdOption = None,
    timeout: Timeout = _TIMEOUT,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put a policy that a running issuer keeps in force again, and hold it until `issuer policy reload`.

    For SPIFFE IDs with the role operator. Exit code 1 when no such policy is kept.

    [bold]Example[/bold]

        issuer policy rollback sha256:6ca1... --issuer issuer.prod.example:8443
    """
    with connected(issuer, issuer_name, issuer_trust_domain, socket, spiffe_id, timeout) as client:
        current = client.rollback_policy(digest)
    _print_in_force(current, output)


def _print_in_force(current: pb.PolicyGeneration, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"current": _generation_document(current)}))
    else:
        typer.echo(f"in force: {_generation_words(current)}")


def _status_lines(answer: pb.GetPolicyStatusResponse) -> Iterator[str]:
    yield f"in force: {_generation_words(answer.current)}"
    if answer.pinned:
        yield "held by a rollback: files are not followed until `issuer policy reload`"
    for each in answer.generations:
        if each.digest != answer.current.digest:
            yield f"kept: {_generation_words(each)}"
    if answer.last_fault:
        yield f"the last load was refused at {_text(answer.last_fault_time)}:"
        yield from (f"  {line}" for line in answer.last_fault.splitlines())
    if answer.audit_rules:
        yield f"in audit mode: {' '.join(answer.audit_rules)}"
    for feeder, facts in sorted(answer.facts_by_feeder.items()):
        yield f"facts of {feeder}: {facts}"


def _generation_words(generation: pb.PolicyGeneration) -> str:
    numbers = {name: getattr(generation, name) for name in _COUNTS}
    counts = [f"{number} {name[: -1 if number == 1 else None]}" for name, number in numbers.items()]
    return f"{generation.digest} since {_text(generation.load_time)}, {', '.join(counts)}"


_COUNTS = ("audiences", "grants", "prohibitions", "limits")


def _status_document(answer: pb.GetPolicyStatusResponse) -> dict[str, object]:
    return {
        "current": _generation_document(answer.current),
        "generations": [_generation_document(each) for each in answer.generations],
        "pinned": answer.pinned,
        "last_fault": answer.last_fault or None,
        "last_fault_time": _text(answer.last_fault_time) if answer.HasField("last_fault_time") else None,
        "audit_rules": list(answer.audit_rules),
        "facts_by_feeder": dict(answer.facts_by_feeder),
    }


def _generation_document(generation: pb.PolicyGeneration) -> dict[str, object]:
    counts = {name: getattr(generation, name) for name in _COUNTS}
    return {"digest": generation.digest, "load_time": _text(generation.load_time), **counts}


def _text(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
