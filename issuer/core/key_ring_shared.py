"""Which keys sign for all issuers of one ledger, as it tells: one that has others must not serve. Pure.

Verifiers fetch the key set from whichever issuer they reach. So each must publish every key by which any of them signs,
and none may sign by a key that the others took away. The ledger lets each step be taken once: of two issuers that begin
with different keys at the same moment, the second is told of the first one's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from issuer.core.key_ring import MICROSECONDS
from issuer.core.ledger_claims import step_of_key
from issuer.core.ledger_entries import KEY_SHARED, KEYS, StepTaken, detail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

    from issuer.core.ledger_claims import ClaimRow

FOREVER: Final = 253_402_300_799 * MICROSECONDS
"""The end of the year 9999: a step matters for as long as there are tokens, however old entries are pruned."""
_NAMED: Final = 3
"""So many keys are named in a message; one is what is usual."""
_SIGNING: Final = "signing"


class KeysOfLedger:
    """The keys that sign, or whose tokens may live: a :class:`~issuer.core.claim_books.ClaimBook`."""

    def __init__(self) -> None:
        self._number = 0
        self._signing: dict[str, None] = {}
        self._gone: set[str] = set()

    @property
    def signing(self) -> list[str]:
        """The ``kid`` of each, in the order in which they were told."""
        return list(self._signing)

    def is_taken(self, key: str) -> bool:
        """Return whether a step is known to be made; false for the key of something else."""
        step = step_of_key(KEYS, key)
        return step is not None and step[1] <= self._number

    def learn(self, rows: Iterable[ClaimRow], now: datetime) -> None:  # noqa: ARG002 - nothing of this is ever over
        """Take what was claimed, in the order of its versions; what is of another kind is passed over."""
        for row in rows:
            if (step := step_of_key(KEYS, row.key)) is not None:
                self._number = step[1]
                self._take(**json.loads(row.detail))

    def _take(self, kid: str, signs: bool) -> None:  # noqa: FBT001 - as the ledger has it
        if signs:
            self._signing[kid] = None
        else:
            self._signing.pop(kid, None)
            self._gone.add(kid)

    def fault(self, active: str, known: Collection[str]) -> str:
        """Return why an issuer with other keys must not serve, and what to do; ``""`` where nothing is wrong.

        Args:
            active: The ``kid`` by which it signs.
            known: Those of all keys that it has, or had. Whether it still publishes each is not looked at: who takes
                one away tells the ledger first.
        """
        if missing := [each for each in self._signing if each not in known]:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            return (
                f"issuers of this ledger sign by keys that this one lacks ({', '.join(missing[:_NAMED])}{more}): "
                "give it their folder of keys; or, for a key that no issuer has any more, run `issuer keys forget`"
            )
        if active in self._gone:
            return (
                f"the key {active}, by which this issuer would sign, was taken away: its folder of keys is an older "
                "one. Put the newest there; or, if that is lost, move this one away, and a new key is made"
            )
        return ""

    def adding(self, key_ids: Iterable[str], now: int) -> list[StepTaken]:
        """Return the entries that tell of keys that will sign, without those that are known.

        Args:
            key_ids: The ``kid`` of each.
            now: Microseconds since 1970 UTC.
        """
        fresh = [each for each in key_ids if each not in self._signing and each not in self._gone]
        return list(self._steps(fresh, now, signs=True))

    def removing(self, key_id: str, now: int) -> list[StepTaken]:
        """Return the entries that tell that nothing of a key is good any more; none where nobody signed by it."""
        return list(self._steps([key_id] if key_id in self._signing else [], now, signs=False))

    def _steps(self, key_ids: Iterable[str], now: int, *, signs: bool) -> Iterator[StepTaken]:
        for number, key_id in enumerate(key_ids, self._number + 1):
            said = detail({"kid": key_id, "signs": signs})
            yield StepTaken(KEY_SHARED, KEYS, _SIGNING, number, now, "", said, FOREVER)
