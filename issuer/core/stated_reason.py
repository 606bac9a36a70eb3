"""The reason that somebody states for a step, which those who read the ledger will see."""

from __future__ import annotations

from typing import Final

from issuer.core.errors import FieldViolation, InvalidTokenRequest

MAX_WHY: Final = 512
"""Characters: enough for a sentence and a ticket, and every one of them is kept."""


def faults_of_why(why: str) -> list[FieldViolation]:
    """Return what is wrong with a reason; it may be empty."""
    if len(why) > MAX_WHY or not why.isprintable():
        return [FieldViolation("reason", f"must be at most {MAX_WHY} printable characters")]
    return []


def check_why(why: str) -> None:
    """Refuse a reason that is too long, or not for people.

    Raises:
        InvalidTokenRequest: It is.
    """
    if faults := faults_of_why(why):
        raise InvalidTokenRequest(tuple(faults))
