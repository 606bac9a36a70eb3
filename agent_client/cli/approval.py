"""A token that people have to approve: ask them, wait, and ask for it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.cli.messages import tell
from agent_client.cli.waiting import told_when_slow
from agent_client.errors import ApprovalRequired

if TYPE_CHECKING:
    from agent_client import ApprovalRequest, IssuedToken, SyncIssuerClient

_ISSUER = "waiting for the Workload API and the issuer"


def token_with_approval(client: SyncIssuerClient, asked: dict[str, Any], seconds: float) -> IssuedToken:
    """Return a token, waiting so many seconds for the answer of people where they have to approve it.

    Args:
        client: Whom to ask.
        asked: The arguments of ``issue_token``.
        seconds: How long to wait; nothing for not at all.

    Raises:
        ApprovalRequired: Nobody was asked, or nothing is waited for.
        CommandFailed: They said no, or nothing in time.
        Exception: Whatever else ``issue_token`` raises.
    """
    try:
        with told_when_slow(_ISSUER):
            return client.issue_token(**asked)
    except ApprovalRequired as required:
        if required.approval_request is None or not seconds:
            raise
        name, until = required.approval_request, required.approval_expires_at
    details = [("approval", name), ("expires", until.isoformat(timespec="seconds") if until else None)]
    tell("note", f"{name} waits for approval, as `issuer approvals show` tells", details)
    answered = client.wait_for_approval(name, timeout=seconds)
    if not answered.approved:
        raise _not_approved(answered)
    tell("note", f"approved by {', '.join(answered.approvers)}", [("approval", name)])
    with told_when_slow(_ISSUER):
        return client.issue_token(**asked)


def _not_approved(answered: ApprovalRequest) -> CommandFailed:
    from agent_client import ApprovalState  # noqa: PLC0415 - takes a while, and was paid for by now

    details = [("approval", answered.name), ("by", answered.ended_by), ("reason", answered.ended_reason)]
    if answered.state in (ApprovalState.PENDING, ApprovalState.EXPIRED):
        text = "nobody has answered in time; ask for the same token again when it is approved"
        return CommandFailed(ExitCode.APPROVAL_REQUIRED, text, details)
    state = answered.state.replace("_", " ")
    return CommandFailed(ExitCode.DENIED, f"the request for approval is {state}", details)
