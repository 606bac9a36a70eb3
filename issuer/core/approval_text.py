"""Approvals as canonical JSON: in the record of a decision that read one, and as the steps that the ledger chains."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from issuer.core.approval_evidence import Evidence
from issuer.core.approval_request import AskedFor, Need, Question
from issuer.core.approval_state import Step, StepKind
from issuer.core.approvals import Approved

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_A_RECORD = ("id", "number", "application", "scopes", "ttl", "until")


def approval_text(approved: Approved | None) -> str:
    """Return what a decision's record holds of the approval that it read; empty for none.

    The digest is not there: replay compares the request itself, and with another policy it would be another.
    """
    if approved is None:
        return ""
    return canonical({name: getattr(approved, name) for name in _OF_A_RECORD})


def approval_from_text(text: str) -> Approved:
    """Return the approval of :func:`approval_text`, for one more use.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    members["scopes"] = tuple(members["scopes"])
    return Approved(**members, digest="", uses=1)


def question_text(question: Question) -> str:
    """Return a question as JSON."""
    members = {field.name: getattr(question, field.name) for field in fields(question)}
    members["asked"] = {field.name: getattr(question.asked, field.name) for field in fields(question.asked)}
    members["needs"] = [_need(need) for need in question.needs]
    return canonical(members)


def _need(need: Need) -> dict[str, object]:
    members = need._asdict()
    if not need.human:  # so that issuers of a version before read what they know
        del members["human"]
    return members


def question_from_text(text: str) -> Question:
    """Return the question of :func:`question_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    members["asked"] = AskedFor(**_tuples(members["asked"], "scopes"))
    members["needs"] = tuple(Need(**_tuples(need, "approvers")) for need in members["needs"])
    return Question(**_tuples(members, "owners"))


def step_text(step: Step) -> str:
    """Return a step as JSON, without who made it."""
    members = step._asdict()
    del members["by"]
    if step.evidence is None:  # so that issuers of a version before read what they know
        del members["evidence"]
    else:
        members["evidence"] = step.evidence._asdict()
    return canonical(members)


def step_from_text(text: str, by: str) -> Step:
    """Return the step of :func:`step_text`.

    Raises:
        ValueError, KeyError, TypeError: The text is of another kind.
    """
    members = json.loads(text)
    members["kind"] = StepKind(members["kind"])
    if members["scopes"] is not None:
        members["scopes"] = tuple(members["scopes"])
    if "evidence" in members:
        members["evidence"] = Evidence(**_tuples(members["evidence"], "amr"))
    return Step(by=by, **members)


def _tuples(members: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return dict(members) | {name: tuple(members[name]) for name in names}


def canonical(members: Mapping[str, object]) -> str:
    """Return members as JSON, in the one spelling that is chained."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"))
