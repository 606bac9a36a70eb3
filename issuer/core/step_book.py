"""Things that have a life of numbered steps, in memory: the fold of what the ledger lets be taken once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from issuer.core.instants import microseconds
from issuer.core.ledger_claims import step_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow


class Thing(Protocol):
    """Something with a life."""

    @property
    def id(self) -> str:
        """Its id, a UUIDv7."""
        ...

    @property
    def number(self) -> int:
        """Of its last step."""
        ...


AThing = TypeVar("AThing", bound=Thing)


class StepFold(ABC, Generic[AThing]):
    """The things of one kind that can still matter. The ledger tells every step, in the order it chose.

    Attributes:
        kind: Which: one of :data:`~issuer.core.ledger_entries.STEPS_OF`.
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        self._by_id: dict[str, AThing] = {}
        self._watchers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[AThing]:
        """Give everything that can still matter, the newest first."""
        return iter(sorted(self._by_id.values(), key=lambda each: each.id, reverse=True))

    def __len__(self) -> int:
        """Return how many can still matter."""
        return len(self._by_id)

    def get(self, thing_id: str) -> AThing | None:
        """Return one; ``None`` when there is none, or it is long over."""
        return self._by_id.get(thing_id)

    def is_taken(self, key: str) -> bool:
        """Return whether a step is known to be made."""
        step = step_of_key(self.kind, key)
        known = self._by_id.get(step[0]) if step else None
        return known is not None and step is not None and step[1] <= known.number

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever there is something new, until the returned function is called."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:
        """Take what was claimed, in the order of its versions; what is of another kind is passed over."""
        news = False
        for row in rows:
            if (step := step_of_key(self.kind, row.key)) is not None:
                news = True
                self._take(row, *step)
        self._forget(microseconds(now))
        for changed in list(self._watchers) if news else ():
            changed()

    @abstractmethod
    def _take(self, row: ClaimRow, thing_id: str, number: int) -> None:
        """Take one step."""

    @abstractmethod
    def _forget(self, now: int) -> None:
        """Forget what matters no more at a time, microseconds since 1970 UTC."""


class StepBook(StepFold[AThing]):
    """Those that one caller asks for, each of which is forgotten when it is over."""

    def __init__(self) -> None:
        super().__init__()
        self._by_caller: dict[str, dict[str, AThing]] = {}

    def of_caller(self, caller: str) -> list[AThing]:
        """Return what a caller asked for and what can still matter."""
        return list(self._by_caller.get(caller, {}).values())

    @abstractmethod
    def _begin(self, row: ClaimRow) -> AThing:
        """Return what the first step begins."""

    @abstractmethod
    def _after(self, known: AThing, row: ClaimRow, number: int) -> AThing:
        """Return what a later step makes of it; what no issuer wrote makes an end of it."""

    @abstractmethod
    def _caller_of(self, thing: AThing) -> str:
        """Return who asked for it."""

    @abstractmethod
    def _over_at(self, thing: AThing) -> int:
        """Return when nothing of it matters any more, microseconds since 1970 UTC."""

    def _take(self, row: ClaimRow, thing_id: str, number: int) -> None:
        if number == 1:
            self._put(self._begin(row))
        elif (known := self._by_id.get(thing_id)) is not None:  # else it is long over
            self._put(self._after(known, row, number))

    def _put(self, thing: AThing) -> None:
        self._by_id[thing.id] = thing
        self._by_caller.setdefault(self._caller_of(thing), {})[thing.id] = thing

    def _forget(self, now: int) -> None:
        for thing in [each for each in self._by_id.values() if now >= self._over_at(each)]:
            del self._by_id[thing.id]
            caller = self._caller_of(thing)
            del self._by_caller[caller][thing.id]
            if not self._by_caller[caller]:
                del self._by_caller[caller]
