"""What is wrong with a policy, all of it at once, each fault with its place."""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_FAULTS: Final = 50
"""How many faults are told at once; nobody reads more, and a hostile file must not make a report of its own size."""
_MAX_QUOTED: Final = 80
_MAX_MESSAGE: Final = 500


class Position(NamedTuple):
    """A place in a file of policy. ``line`` and ``column`` (in characters) count from 1; line 0 is the whole file."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class PolicyFault(NamedTuple):
    """One fault. Prints as ``file:line:column: message``, which editors and CI systems turn into a link."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


class PolicyInvalid(Exception):
    """A policy cannot be used at all: whole or not at all.

    Attributes:
        faults: At least one, in the order of files, lines and columns, at most :data:`MAX_FAULTS`.
        more: How many faults were found beyond those.
    """

    def __init__(self, faults: tuple[PolicyFault, ...], more: int = 0) -> None:
        lines = [str(fault) for fault in faults]
        super().__init__("\n".join([*lines, f"and {more} more"] if more else lines))
        self.faults = faults
        self.more = more


class FaultList:
    """Collects faults, up to the bound, and raises them together."""

    def __init__(self) -> None:
        self._faults: list[PolicyFault] = []
        self._more = 0

    @property
    def is_full(self) -> bool:
        """Whether another fault would only be counted: time to stop searching for its best wording."""
        return len(self._faults) >= MAX_FAULTS

    def add(self, position: Position, message: str) -> None:
        """Keep a fault, or count it when there are too many."""
        if self.is_full:
            self._more += 1
        else:
            self._faults.append(PolicyFault(position, _presentable(message)))

    def raise_if_any(self) -> None:
        """Raise what was found.

        Raises:
            PolicyInvalid: When there is a fault.
        """
        if self._faults:
            raise PolicyInvalid(tuple(sorted(self._faults)), self._more)


def quoted(text: str) -> str:
    """Return ``text`` for a message: in quotes, escaped, cut when it is long."""
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")


def _presentable(message: str) -> str:
    """Return ``message`` on one line, bounded, whatever of a hostile file has found its way into it."""
    cut = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
    return "".join(character if character.isprintable() else "?" for character in cut)
