"""The place of a token in a status list: which lists there are, when each is over, and who may use which entries.

A list holds tokens that end in the same stretch of time, so that it is retired whole when the last of them is over. Its
number says which stretch: the hour by whose start they have all ended, and which of the lists of that hour it is.

Who issues tokens reserves a *block* of a list's entries, which the ledger lets be taken once, and hands them out in
random order. Blocks are taken in random order too: an entry tells neither when its token was issued nor how many were
(draft-ietf-oauth-status-list-20 section 13.2), beyond the list itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.ledger_claims import step_key, step_of_key
from issuer.core.ledger_entries import STATUS, STATUS_BLOCK_TAKEN, StepTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from random import Random

    from issuer.core.ledger_claims import ClaimRow

LIST_SIZE: Final = 1 << 17
"""Entries of a list: 16 KiB, which as a signed text is at most 30 KB, however little it can be compressed."""
BLOCK_SIZE: Final = 1 << 10
"""Entries of a block: at 1,000 tokens a second one row in the ledger each second. A restart wastes two at most for each
list in use."""
BLOCKS: Final = LIST_SIZE // BLOCK_SIZE
LISTS_OF_AN_HOUR: Final = 1 << 12
"""So many lists may end in one hour: 500 million tokens."""

_HOUR: Final = 3600
_DAY: Final = 24
_WEEK: Final = 7 * _DAY
_CLOCKS_SECONDS: Final = 120
"""A list outlives its last token by this much: verifiers take a token for up to a minute longer than its ``exp``, and
clocks differ."""


@dataclass(frozen=True, slots=True)
class StatusIndex:
    """The entry of a token: the list's number, and the index in it."""

    list_number: int
    index: int

    @property
    def number(self) -> int:
        """Both in one number, as the ledger keeps them."""
        return self.list_number * LIST_SIZE + self.index

    @classmethod
    def of_number(cls, number: int) -> StatusIndex:
        """Return the entry of a :attr:`number`."""
        return cls(*divmod(number, LIST_SIZE))


class Block(NamedTuple):
    """A block of entries of a list: a number from 1 to :data:`BLOCKS`."""

    list_number: int
    number: int

    @property
    def key(self) -> str:
        """What is claimed in the ledger."""
        return step_key(STATUS, str(self.list_number), self.number)

    def taken(self, now: int) -> StepTaken:
        """Return the entry of the ledger that takes it; ``now`` is in microseconds."""
        over = over_at(self.list_number) * 1_000_000
        return StepTaken(STATUS_BLOCK_TAKEN, STATUS, str(self.list_number), self.number, now, "", "{}", over)

    def entries(self, order: Random) -> list[int]:
        """Return the :attr:`StatusIndex.number` of each of its entries, in random order."""
        first = StatusIndex(self.list_number, (self.number - 1) * BLOCK_SIZE).number
        shuffled = list(range(first, first + BLOCK_SIZE))
        order.shuffle(shuffled)
        return shuffled


def hour_of(expires_at: int, now: int) -> int:
    """Return the hour of the lists for tokens that end at a moment, in hours since 1970 UTC.

    The longer a token lives, the longer is the stretch: else a few long tokens would need a list for each hour of a
    year.

    Args:
        expires_at: The ``exp``, Unix seconds.
        now: Unix seconds.
    """
    stretch = stretch_of(expires_at - now)
    return -(-(expires_at + _CLOCKS_SECONDS) // (stretch * _HOUR)) * stretch


def stretch_of(lifetime: int) -> int:
    """Return how many hours lie between the lists of tokens of this lifetime, which is in seconds."""
    return 1 if lifetime <= 2 * _HOUR else _DAY if lifetime <= 2 * _DAY * _HOUR else _WEEK


def first_list(hour: int) -> int:
    """Return the number of the first list of an hour."""
    return hour * LISTS_OF_AN_HOUR


def over_at(listed: int) -> int:
    """Return when no token of a list is alive any more, Unix seconds."""
    return listed // LISTS_OF_AN_HOUR * _HOUR


class BlocksTaken:
    """Which blocks are known to be taken, by anybody: a :class:`~issuer.core.claim_books.ClaimBook`."""

    def __init__(self) -> None:
        self._by_list: dict[int, set[int]] = {}
        self._watchers: list[Callable[[], None]] = []

    @property
    def lists(self) -> list[int]:
        """The lists of which a block is taken, in order."""
        return sorted(self._by_list)

    def is_taken(self, key: str) -> bool:
        """Return whether a block is known to be taken; false for the key of something else."""
        named = step_of_key(STATUS, key)
        return named is not None and named[1] in self._by_list.get(int(named[0]), ())

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:
        """Take what was claimed; what is no block is passed over."""
        before = len(self._by_list)
        for row in rows:
            if (named := step_of_key(STATUS, row.key)) is not None and row.expires_at > now.timestamp() * 1_000_000:
                self._by_list.setdefault(int(named[0]), set()).add(named[1])
        if len(self._by_list) != before:
            for changed in list(self._watchers):
                changed()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever there is a new list, until the returned function is called."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def free(self, hour: int, order: Random) -> Block | None:
        """Return a block of the first list of an hour that has one, at random; ``None`` when every list is full."""
        start = first_list(hour)
        for listed in range(start, start + LISTS_OF_AN_HOUR):
            taken = self._by_list.get(listed, ())
            if len(taken) < BLOCKS:
                return Block(listed, order.choice([number for number in range(1, BLOCKS + 1) if number not in taken]))
        return None

    def forget(self, now: float) -> list[int]:
        """Forget the lists that are over at a moment (Unix seconds), and return them."""
        over = [listed for listed in self._by_list if over_at(listed) <= now]
        for listed in over:
            del self._by_list[listed]
        return over
