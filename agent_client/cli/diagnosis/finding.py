"""One thing that was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How good or bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look brought.

    Attributes:
        step: What was looked at.
        level: How it is.
        message: What was seen, in a few words.
        remedy: What to do about it; empty where nothing is to be done.
    """

    step: str
    level: Level
    message: str
    remedy: str = ""


def ok(step: str, message: str) -> Finding:
    """Return that a step is in order."""
    return Finding(step, Level.OK, message)


def warning(step: str, message: str, remedy: str) -> Finding:
    """Return that a step works and will not for ever."""
    return Finding(step, Level.WARNING, message, remedy)


def fault(step: str, message: str, remedy: str) -> Finding:
    """Return that a step does not work."""
    return Finding(step, Level.FAULT, message, remedy)


def skipped(step: str, why: str) -> Finding:
    """Return that a step could not be looked at."""
    return Finding(step, Level.SKIPPED, why)
