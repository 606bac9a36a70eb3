"""Whether a ledger's chains hold: recomputes every entry, and says what is wrong with the first that does not fit.

What it cannot see: that the last entries of a chain were removed, unless a later chain or a signed checkpoint holds a
head that is now missing; and anything, if whoever changed it could also sign checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from issuer.core.hash_chain import BEFORE_FIRST, Head, extend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ChainEntry(NamedTuple):
    """An entry as it is stored.

    Attributes:
        position: In its chain, counted from 1.
        hash: As stored.
        body: As its columns give it (:mod:`issuer.core.record_encoding`).
        name: What people find it by: a decision id, or an event's kind and time.
    """

    position: int
    hash: bytes
    body: bytes
    name: str


@dataclass(frozen=True, slots=True)
class ChainFault:
    """The first entry of a chain that does not fit.

    Attributes:
        writer: The chain.
        position: Where.
        name: What is there, or was.
        problem: What is wrong.
    """

    writer: str
    position: int
    name: str
    problem: str


@dataclass(slots=True)
class ChainWalk:
    """Goes along one chain.

    Attributes:
        writer: The chain.
        start: What was pruned before it, up to here; ``BEFORE_FIRST`` when nothing was.
        claims: Heads that others say the chain had: the hash of a position, and who says it.
    """

    writer: str
    start: Head = BEFORE_FIRST
    claims: Mapping[int, tuple[bytes, str]] = field(default_factory=dict)

    def check(self, entries: Iterable[ChainEntry]) -> tuple[Head, ChainFault | None]:
        """Return the last head that holds, and the first fault.

        Args:
            entries: Every entry of the chain, by position.
        """
        head = self.start
        for entry in entries:
            if entry.position != head.position + 1:
                return head, self._fault(head.position + 1, entry.name, _gap(head.position + 1, entry.position))
            after = extend(head, entry.body)
            if entry.hash != after.hash:
                return head, self._fault(entry.position, entry.name, "was changed, or stands in the place of another")
            if (claim := self.claims.get(entry.position)) and claim[0] != after.hash:
                return head, self._fault(entry.position, entry.name, f"is not the entry that {claim[1]} names")
            head = after
        missing = [position for position in self.claims if position > head.position]
        if missing:
            last = max(missing)
            problem = f"the chain ends at {head.position}, and {self.claims[last][1]} names its entry {last}"
            return head, self._fault(head.position + 1, "", problem)
        return head, None

    def _fault(self, position: int, name: str, problem: str) -> ChainFault:
        return ChainFault(self.writer, position, name, problem)


def _gap(expected: int, found: int) -> str:
    if found > expected:
        return f"is entry {found}; the entries before it, from {expected}, were removed"
    return f"is entry {found} a second time"
