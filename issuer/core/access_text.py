"""Windows of access as canonical JSON: the steps that the ledger chains."""

from __future__ import annotations

import json
from dataclasses import fields

from issuer.core.access_window import Opening, Status, Step, StepKind
from issuer.core.approval_request import Need
from issuer.core.approval_text import canonical


def opening_text(opening: Opening) -> str:
    """Return an opening as JSON."""
    members = {field.name: getattr(opening, field.name) for field in fields(opening)}
    members["needs"] = [need._asdict() for need in opening.needs]
    return canonical(members)


def opening_from_text(text: str) -> Opening:
    """Return the opening of :func:`opening_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    members["scopes"] = tuple(members["scopes"])
    members["needs"] = tuple(Need(**{**need, "approvers": tuple(need["approvers"])}) for need in members["needs"])
    return Opening(**members)


def step_text(step: Step) -> str:
    """Return a step as JSON, without who made it."""
    members = step._asdict()
    del members["by"]
    return canonical(members)


def step_from_text(text: str, by: str) -> Step:
    """Return the step of :func:`step_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    members["kind"] = StepKind(members["kind"])
    members["end"] = None if members["end"] is None else Status(members["end"])
    members["rules"] = tuple(members["rules"])
    return Step(by=by, **members)
