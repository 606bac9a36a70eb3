"""The options by which commands say which decisions they are about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.core.duration import parse_duration
from issuer.core.instants import microseconds
from issuer.core.record import Flag, Outcome
from issuer.ports import DecisionsWanted
from issuer.system import SystemClock

OUTCOMES = {outcome.name.lower(): outcome for outcome in Outcome}
FLAGS = {flag.name.lower(): flag for flag in Flag if flag.name}

SinceOption = Annotated[str, typer.Option(help="How far back, as 24h or 7d; or a moment, as 2026-11-01T00:00Z.")]
UntilOption = Annotated[str | None, typer.Option(help="Up to then: as --since.")]
MaybeSinceOption = Annotated[str | None, typer.Option("--since", help="How far back, as 24h; or 2026-11-01T00:00Z.")]
CallerOption = Annotated[str | None, typer.Option(help="The SPIFFE ID that asked, or a pattern of policies.")]
AudienceOption = Annotated[str | None, typer.Option(help="The audience that was asked for.")]
ApplicationOption = Annotated[str | None, typer.Option(help="The application that was claimed or given.")]
ScopeOption = Annotated[str | None, typer.Option(help="A scope that was asked for.")]
GrantTypeOption = Annotated[str | None, typer.Option(help="How it was asked for, as client_credentials.")]
OutcomeOption = Annotated[str | None, typer.Option(help=f"One of {', '.join(OUTCOMES)}.")]
ReasonOption = Annotated[str | None, typer.Option(help="Why there was no token, as SCOPE_NOT_ALLOWED.")]
RuleOption = Annotated[str | None, typer.Option(help="The id of a rule that decided, or came closest.")]
PolicyDigestOption = Annotated[str | None, typer.Option("--policy", help="The digest of the policy that decided.")]
CertificateOption = Annotated[
    str | None, typer.Option(help="The SHA-256 or the serial number of the caller's certificate, hexadecimal.")
]
PeerOption = Annotated[str | None, typer.Option(help="The network address that was called from.")]
FlagOption = Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(FLAGS)}; all that are given.")]


def decision_filter(
    *, since: str | None, until: str | None, outcome: str | None, flag: list[str] | None, **plain: str | None
) -> DecisionsWanted:
    """Return the filter that options say, or end the command."""
    if outcome is not None and outcome not in OUTCOMES:
        fail(f"--outcome {outcome}: one of {', '.join(OUTCOMES)}", ExitCode.USAGE)
    flags = 0
    for name in flag or ():
        if name not in FLAGS:
            fail(f"--flag {name}: one of {', '.join(FLAGS)}", ExitCode.USAGE)
        flags |= FLAGS[name]
    return DecisionsWanted(
        since=None if since is None else moment_of("--since", since),
        until=None if until is None else moment_of("--until", until),
        outcome=None if outcome is None else OUTCOMES[outcome],
        flags=flags,
        **plain,
    )


def time_range(since: str, until: str | None) -> tuple[int, int]:
    """Return the moments that options say, in microseconds since 1970 UTC, or end the command."""
    end = microseconds(SystemClock().now()) + 1 if until is None else moment_of("--until", until)
    return moment_of("--since", since), end


def moment_of(option: str, text: str) -> int:
    """Return a moment, told as a time ago or as itself, in microseconds since 1970 UTC; or end the command."""
    try:
        return microseconds(SystemClock().now() - parse_duration(text))
    except ValueError as error:
        fault = error
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {fault}; or a moment, as 2026-11-01T00:00Z", ExitCode.USAGE)
    return microseconds(told if told.tzinfo else told.replace(tzinfo=UTC))
