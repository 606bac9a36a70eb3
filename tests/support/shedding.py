"""A transport that would refuse by itself, and keeps what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.rpc.shedding import Trailers


class Allowance:
    """What a transport counts with.

    Attributes:
        refused: What is told at the next look.
        refused_last: What comes to it when the allowance ends.
    """

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0
        self.refused = self.refused_last = 0

    def set(self, calls: int, seconds: float) -> int:
        self.calls, self.seconds = calls, seconds
        if not seconds:
            self.refused, self.refused_last = self.refused + self.refused_last, 0
        refused, self.refused = self.refused, 0
        return refused


class Connection:
    """One connection of a caller."""

    allowance: Allowance | None = None

    def share(self, allowance: Allowance) -> None:
        self.allowance = allowance


class Transport:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Sequence[Trailers]] = []
        self.max_held = 0

    def new_allowance(self) -> Allowance:
        return Allowance()

    def refuse_with(self, statuses: Sequence[Trailers], max_held: int) -> None:
        self.told.append(statuses)
        self.max_held = max_held
