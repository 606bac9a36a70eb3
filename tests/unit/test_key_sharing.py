"""What two issuers of one ledger tell it of their keys, at the same moment too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.ledgers import group_commit, rows

from issuer.core.claim_books import ClaimBooks
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.key_ring import KeyRing
from issuer.core.key_ring_shared import KeysOfLedger
from issuer.core.ledger_claims import ClaimRow
from issuer.core.ledger_entries import KEY_ACTIVATED, KEY_PREPARED, KEY_REMOVED
from issuer.key_sharing import MAX_TRIES, KeySharing, KeysNotShared
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ports import ClaimTaken
from issuer.signing.key_file import KeyFileSigner
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from issuer.core.ledger_entries import Entry
    from issuer.ledger.group_commit import GroupCommit

CLOCK = SystemClock()


class Busy:
    """A ledger in which somebody else was always first."""

    tries = 0

    async def write(self, *_: Entry, within: float | None = None, epoch: int | None = None) -> None:
        self.tries += 1
        raise ClaimTaken(frozenset())


class OfTheSecond:
    """The ledger as a second issuer has it, which is told what the first one took when it wants to take the same."""

    def __init__(self, ledger: GroupCommit, keys: KeysOfLedger, folder: Path) -> None:
        self._ledger = ledger
        self._keys = keys
        self._file = folder / "ledger.sqlite3"

    async def write(self, *entries: Entry, within: float | None = None, epoch: int | None = None) -> None:
        try:
            await self._ledger.write(*entries, within=within, epoch=epoch)
        except ClaimTaken:
            query = f"SELECT {', '.join(ClaimRow._fields)} FROM claim ORDER BY version"  # noqa: S608 - our own names
            self._keys.learn([ClaimRow(*row) for row in rows(self._file, query)], CLOCK.now())
            raise


@pytest.fixture
def keys() -> KeysOfLedger:
    return KeysOfLedger()


@pytest.fixture
async def ledger(tmp_path: Path, keys: KeysOfLedger) -> AsyncIterator[GroupCommit]:
    made = group_commit(SqliteLedger(tmp_path / "ledger.sqlite3"), claims=ClaimBooks(keys))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return ring_of(tmp_path / "one")


def ring_of(folder: Path) -> KeyRing:
    """Return that of a folder with a key of its own."""
    return KeyRing(KeyFileSigner.open_or_create(folder / "key.pem").public_key)


def told(folder: Path) -> list[tuple[str, str]]:
    """Return which keys the ledger was told of: what, and the ``kid``."""
    found = rows(folder / "ledger.sqlite3", "SELECT kind, detail FROM event WHERE kind LIKE 'key%' ORDER BY seq")
    return [(kind, json.loads(detail).get("said", json.loads(detail))["kid"]) for kind, detail in found]


async def test_who_joins_with_another_key_is_refused_and_tells_nothing(
    ledger: GroupCommit, keys: KeysOfLedger, ring: KeyRing, tmp_path: Path
) -> None:
    sharing = KeySharing(ledger, keys, CLOCK)
    await sharing.join(ring)
    await sharing.join(ring)
    stray = ring_of(tmp_path / "stray")
    with pytest.raises(KeysNotShared, match=ring.active.key_id):
        await sharing.join(stray)
    assert told(tmp_path) == [("key_shared", ring.active.key_id)]


async def test_of_two_that_begin_at_the_same_moment_the_second_learns_of_the_first(
    ledger: GroupCommit, keys: KeysOfLedger, ring: KeyRing, tmp_path: Path
) -> None:
    await KeySharing(ledger, keys, CLOCK).join(ring)
    stray, late = ring_of(tmp_path / "stray"), KeysOfLedger()
    with pytest.raises(KeysNotShared, match=ring.active.key_id):
        await KeySharing(OfTheSecond(ledger, late, tmp_path), late, CLOCK).join(stray)
    assert told(tmp_path) == [("key_shared", ring.active.key_id)]


async def test_a_change_and_what_all_issuers_must_know_of_it_are_one_commit(
    ledger: GroupCommit, keys: KeysOfLedger, tmp_path: Path
) -> None:
    sharing = KeySharing(ledger, keys, CLOCK)
    for kind in (KEY_PREPARED, KEY_ACTIVATED, KEY_ACTIVATED, KEY_REMOVED):
        await sharing.tell(kind, "a", actor="", how="operator")
    kinds = [kind for kind, _ in told(tmp_path)]
    assert kinds == ["key_prepared", "key_activated", "key_shared", "key_activated", "key_removed", "key_shared"]
    assert keys.signing == []


async def test_a_ledger_of_one_issuer_is_told_what_was_done_and_nothing_more(
    ledger: GroupCommit, ring: KeyRing, tmp_path: Path
) -> None:
    sharing = KeySharing(ledger, None, CLOCK)
    await sharing.join(ring)
    assert sharing.fault(ring) == ""
    await sharing.tell(KEY_ACTIVATED, "a", actor="", how="start")
    assert told(tmp_path) == [("key_activated", "a")]


async def test_others_that_are_always_first_are_not_waited_for_for_ever(keys: KeysOfLedger, ring: KeyRing) -> None:
    busy = Busy()
    with pytest.raises(TemporarilyUnavailable) as refused:
        await KeySharing(busy, keys, CLOCK).join(ring)
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
    assert busy.tries == MAX_TRIES
