"""Registrations and steps of intents as canonical JSON, which the ledger chains."""

from __future__ import annotations

import json
from dataclasses import fields

from issuer.core.approval_text import canonical
from issuer.core.intent_registration import Registration
from issuer.core.intent_state import Step, StepKind


def registration_text(registration: Registration) -> str:
    """Return a registration as JSON."""
    return canonical({field.name: getattr(registration, field.name) for field in fields(registration)})


def registration_from_text(text: str) -> Registration:
    """Return the registration of :func:`registration_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    return Registration(**members | {name: tuple(members[name]) for name in ("scopes", "rules")})


def step_text(step: Step) -> str:
    """Return a step as JSON, without who made it; what it does not say is left out."""
    return canonical({name: value for name, value in step._asdict().items() if value and name != "by"})


def step_from_text(text: str, by: str) -> Step:
    """Return the step of :func:`step_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    return Step(**members | {"kind": StepKind(members["kind"]), "by": by})
