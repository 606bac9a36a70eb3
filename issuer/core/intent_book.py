"""The intents, in memory: the fold of the steps that the ledger holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, ClassVar

from issuer.core.instants import microseconds
from issuer.core.intent_state import RegisteredIntent, Status, apply, begin
from issuer.core.intent_steps import registration_from_text, step_from_text
from issuer.core.ledger_entries import INTENT
from issuer.core.step_book import StepFold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow


class IntentBook(StepFold[RegisteredIntent]):
    """The intents that can still matter.

    One that was redeemed or taken back matters until its window is over: a second try is told what became of it. One
    that expired is kept a while longer, to be told of.
    """

    kind: ClassVar = INTENT

    def __init__(self) -> None:
        super().__init__()
        self._of: defaultdict[str, set[str]] = defaultdict(set)
        self._open: dict[str, RegisteredIntent] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._by_request: dict[tuple[str, str], str] = {}
        self._forgettable: list[tuple[int, str]] = []

    def of(self, spiffe_id: str) -> Iterator[RegisteredIntent]:
        """Give the intents that an identity registered or may redeem, the newest first."""
        return iter(_newest_first(self._by_id[intent_id] for intent_id in self._of.get(spiffe_id, ())))

    def of_request(self, registrar: str, request_id: str) -> RegisteredIntent | None:
        """Return what a registrar registered by a request of that name; ``None`` for nothing."""
        intent_id = self._by_request.get((registrar, request_id))
        return None if intent_id is None else self._by_id[intent_id]

    def kept_of(self, registrar: str) -> int:
        """Return how many intents of a registrar can still matter."""
        return self._counts["kept", registrar]

    def open_from(self, registrar: str) -> int:
        """Return how many intents of a registrar are neither used up nor over; those that just expired count."""
        return self._counts["from", registrar]

    def open_for(self, consumer: str) -> int:
        """Return how many of those one consumer may redeem."""
        return self._counts["for", consumer]

    @property
    def open_count(self) -> int:
        """How many there are of all."""
        return len(self._open)

    def unreported(self, now: datetime) -> list[RegisteredIntent]:
        """Return those that expired, and of which that is not recorded."""
        time = microseconds(now)
        return [each for each in self._open.values() if each.status_at(time) is Status.EXPIRED]

    def _take(self, row: ClaimRow, thing_id: str, number: int) -> None:
        if number == 1:
            self._add(begin(registration_from_text(row.detail)))
            return
        if (known := self._by_id.get(thing_id)) is None:  # long over
            return
        after = apply(known, step_from_text(row.detail, row.actor), row.time)
        if not isinstance(after, RegisteredIntent):  # no issuer wrote that: nothing is issued on it any more
            after = replace(known, number=number, status=Status.CANCELLED, ended_at=row.time, uses_left=0)
        self._by_id[thing_id] = after
        if thing_id in self._open:
            self._open[thing_id] = after
            if after.status is not Status.REGISTERED:
                self._close(after)

    def _add(self, intent: RegisteredIntent) -> None:
        registration = intent.registration
        self._by_id[intent.id] = self._open[intent.id] = intent
        for who in _parties(intent):
            self._of[who].add(intent.id)
        self._counts.update((("kept", registration.registrar), *_as_open(intent)))
        if registration.request_id:
            self._by_request[registration.registrar, registration.request_id] = intent.id
        heappush(self._forgettable, (registration.over_at, intent.id))

    def _close(self, intent: RegisteredIntent) -> None:
        del self._open[intent.id]
        self._take_away(*_as_open(intent))
        if intent.status is not Status.EXPIRED:
            heappush(self._forgettable, (intent.registration.expires_at, intent.id))

    def _forget(self, now: int) -> None:
        while self._forgettable and self._forgettable[0][0] <= now:
            _, intent_id = heappop(self._forgettable)
            if (intent := self._by_id.pop(intent_id, None)) is not None:
                self._drop(intent)

    def _drop(self, intent: RegisteredIntent) -> None:
        registration = intent.registration
        if intent.id in self._open:
            self._close(intent)
        self._take_away(("kept", registration.registrar))
        for who in _parties(intent):
            self._of[who].discard(intent.id)
            if not self._of[who]:
                del self._of[who]
        if self._by_request.get((registration.registrar, registration.request_id)) == intent.id:
            del self._by_request[registration.registrar, registration.request_id]

    def _take_away(self, *counted: tuple[str, str]) -> None:
        for each in counted:
            self._counts[each] -= 1
            if not self._counts[each]:
                del self._counts[each]  # a name of which nothing is left is forgotten


def _parties(intent: RegisteredIntent) -> tuple[str, str]:
    return intent.registration.registrar, intent.registration.consumer


def _as_open(intent: RegisteredIntent) -> tuple[tuple[str, str], tuple[str, str]]:
    registrar, consumer = _parties(intent)
    return ("from", registrar), ("for", consumer)


def _newest_first(intents: Iterable[RegisteredIntent]) -> list[RegisteredIntent]:
    return sorted(intents, key=lambda intent: intent.id, reverse=True)
