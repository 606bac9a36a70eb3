"""Windows of access as a card for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.cli.approval_output import INTENT
from issuer.cli.revocation_output import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_api.v1 import access_service_pb2 as pb


def state_of(window: pb.AccessWindow) -> str:
    """Return where a window stands, in a word."""
    name: str = type(window).State.Name(window.state)
    return name.removeprefix("STATE_").lower()


def row_of(window: pb.AccessWindow) -> dict[str, object]:
    """Return a window as a row of a list; JSON has all that the row has."""
    return {
        "name": window.name,
        "state": state_of(window),
        "caller": window.caller,
        "audience": window.audience,
        "scopes": list(window.scopes),
        "reason": window.reason,
        "expire_time": moment_text(window.expire_time),
    }


def document_of(window: pb.AccessWindow) -> dict[str, object]:
    """Return a window for programs; what is absent is null or empty."""
    return row_of(window) | {
        "application": window.application or None,
        "intent": {name: value for name in INTENT if (value := getattr(window.intent, name))},
        "bind_certificate": window.bind_certificate,
        "create_time": moment_text(window.create_time),
        "window_end_time": moment_text(window.window_end_time),
        "end_time": moment_text(window.end_time) if window.HasField("end_time") else None,
        "ended_by": window.ended_by or None,
        "ended_reason": window.ended_reason or None,
        "ended_rules": list(window.ended_rules),
        "decision_id": window.decision_id,
        "policy": window.policy_digest,
        "approval_request": window.approval_request or None,
    }


def card(window: pb.AccessWindow, living_tokens: int) -> str:
    """Return what a person needs to know of it, a line each."""
    return "\n".join(f"{label:<10}{text}" for label, text in _lines(window, living_tokens) if text)


def _lines(window: pb.AccessWindow, living_tokens: int) -> Iterator[tuple[str, str]]:
    yield "window", f"{window.name}: {state_of(window).replace('_', ' ')}"
    yield "who", window.caller + (f" for the application {window.application}" if window.application else "")
    yield "what", f"{' '.join(window.scopes)} at {window.audience}"
    yield "to do", ", ".join(f"{name} {value}" for name in INTENT if (value := getattr(window.intent, name)))
    yield "why", f'"{window.reason}"'
    yield "from", f"{moment_text(window.create_time)} until {moment_text(window.window_end_time)}"
    if window.expire_time != window.window_end_time:
        yield "", f"{moment_text(window.expire_time)}, unless its caller is seen with a newer SVID"
    yield "approved", window.approval_request
    if window.HasField("end_time"):
        by = f" by {window.ended_by}" if window.ended_by else ""
        said = f": {window.ended_reason}" if window.ended_reason else ""
        rules = f" ({' '.join(window.ended_rules)})" if window.ended_rules else ""
        yield "ended", f"{moment_text(window.end_time)}{by}{said}{rules}"
    if living_tokens:
        yield "holds", f"{living_tokens} living tokens"
    yield "decision", window.decision_id
