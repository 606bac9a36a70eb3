"""How a command prints its result: the values of ``--output``."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"
