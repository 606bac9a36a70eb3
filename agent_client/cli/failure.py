"""How a command ends when it did not work: an exit code, and what is told."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from agent_client import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

Details = tuple[tuple[str, str | None], ...]


class ExitCode(IntEnum):
    """What the exit code of a command means; the help of the program tells the user."""

    FAILED = 1
    USAGE = 2
    DENIED = 3
    NOT_AUTHENTICATED = 4
    UNAVAILABLE = 5
    NOT_WRITTEN = 6
    APPROVAL_REQUIRED = 7
    CANNOT_RUN = 126  # as shells have it (POSIX XCU 2.8.2)
    NOT_FOUND = 127


EXIT_CODES: dict[type[errors.IssuerRequestError], ExitCode] = {
    errors.InvalidTokenRequest: ExitCode.USAGE,
    errors.AccessDenied: ExitCode.DENIED,
    errors.ApprovalRequired: ExitCode.APPROVAL_REQUIRED,
    errors.NotAuthenticated: ExitCode.NOT_AUTHENTICATED,
    errors.IssuerNotTrusted: ExitCode.NOT_AUTHENTICATED,
    errors.IssuerUnavailable: ExitCode.UNAVAILABLE,
}
"""For an error and its subclasses; the others end with ``FAILED``."""


class CommandFailed(Exception):
    """The command cannot go on.

    Attributes:
        code: What it exits with.
        message: What happened, in one sentence.
        details: Names and values to tell with it; those without a value are not told.
    """

    def __init__(self, code: ExitCode, message: str, details: Sequence[tuple[str, str | None]] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: Details = tuple(details)


def failure_of(error: Exception) -> CommandFailed:
    """Return how a command ends by ``error``, whatever that is."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, errors.IssuerRequestError):
        return _failure_of_request(error)
    if isinstance(error, errors.ClientNotConfigured):
        return CommandFailed(ExitCode.USAGE, str(error))
    # Now, and not at the top: it brings gRPC, which --help need not wait for. Whoever raised it has paid already.
    from agent_client import WorkloadApiError, WorkloadApiNotConfigured  # noqa: PLC0415

    if isinstance(error, WorkloadApiNotConfigured):
        return CommandFailed(ExitCode.USAGE, str(error))
    if isinstance(error, WorkloadApiError):
        return CommandFailed(ExitCode.UNAVAILABLE, str(error))
    return CommandFailed(ExitCode.FAILED, f"spiffe-token has a defect: {type(error).__name__}: {error}")


def _failure_of_request(error: errors.IssuerRequestError) -> CommandFailed:
    code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
    details = [
        *((violation.field, violation.description) for violation in error.violations),
        ("reason", error.reason),
        ("approval", getattr(error, "approval_request", None)),
        ("decision", error.decision_id),
        ("request", error.request_id),
        ("remedy", error.remedy),
    ]
    return CommandFailed(code, error.message, details)
