"""The rotation over a real ledger and real files, by a clock that the test moves: when keys go, what fails closed."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import CapturingLogger
from support.eventually import eventually_true
from support.ledgers import record, rows, sqlite_ledger

from issuer.core.errors import AdminRefused, Reason, TemporarilyUnavailable
from issuer.core.key_ring import LEEWAY_SECONDS, MAX_PUBLISHED, SETTLE_SECONDS, SPREAD_SECONDS, KeyRing, KeyTerms
from issuer.key_rotation import KeyRotation
from issuer.key_sharing import KeySharing
from issuer.ledger.reading import LedgerReader
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.token_book import LedgerTokenBook
from issuer.signing.key_file import KeyFileError, KeyFileSigner
from issuer.signing.key_folder import KeyFolder
from issuer.signing.signing_keys import SigningKeys
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from issuer.core.ledger_entries import Entry
    from issuer.ports import Ledger

OPERATOR = "spiffe://prod.example/admin/operator"
MAX_AGE, LISTS = 300, 600


class Shifted:
    """The time, shifted by a test."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.by

    def seconds(self) -> int:
        return int(self.now().timestamp())


class AwayLedger:
    """Cannot be written."""

    async def write(self, *_: Entry, within: float | None = None, epoch: int | None = None) -> None:
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "away")


class Followers:
    """Notes what it is told to follow."""

    def __init__(self) -> None:
        self.followed: list[KeyRing] = []

    async def follow_keys(self, ring: KeyRing) -> None:
        self.followed.append(ring)


class Issuer:
    """What of an issuer its rotation touches."""

    def __init__(self, folder: Path, ledger: Ledger, revocations: LedgerRevocations) -> None:
        self.ledger = ledger
        self.clock = Shifted()
        self.file = folder / "ledger.sqlite3"
        self.folder = KeyFolder(folder / "keys" / "signing-key.pem")
        self.keys = SigningKeys(self.folder.open_or_create(self.clock.seconds()))
        self.followers, self.log = Followers(), CapturingLogger()
        self.rotation = self._rotation(ledger, revocations)

    def _rotation(
        self, ledger: Ledger, revocations: LedgerRevocations, sharing: KeySharing | None = None
    ) -> KeyRotation:
        return KeyRotation(
            self.folder,
            self.keys,
            terms=KeyTerms(MAX_AGE, LISTS),
            clock=self.clock,
            sharing=sharing or KeySharing(ledger, None, self.clock),
            revocations=revocations,
            tokens=LedgerTokenBook(LedgerReader.sqlite(self.file)),
            followers=self.followers,
            log=structlog.wrap_logger(self.log, processors=[]),
        )

    def published(self) -> list[str]:
        return [each.key_id for each in self.keys.public_keys().keys]

    def over(self) -> int | None:
        return self.keys.ring.former[0].over

    async def next(self) -> str:
        ring = await self.rotation.prepare(actor=OPERATOR)
        assert ring.next
        return ring.next.jwk.key_id

    async def activate(self, *, force: bool = True) -> None:
        await self.rotation.activate(await self.next(), force=force, actor=OPERATOR)

    def told(self) -> list[tuple[str, str, str]]:
        found = rows(self.file, "SELECT kind, detail, actor FROM event WHERE kind LIKE 'key_%' ORDER BY seq")
        return [(kind, json.loads(detail)["how"], actor) for kind, detail, actor in found]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.rotation.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def look(self) -> None:
        """Let it look once."""
        async with self.running():
            await asyncio.sleep(0)


@asynccontextmanager
async def issuer(folder: Path) -> AsyncIterator[Issuer]:
    revocations = LedgerRevocations()
    async with sqlite_ledger(folder / "ledger.sqlite3", revocations=revocations) as ledger:
        made = Issuer(folder, ledger, revocations)
        await made.rotation.begin()
        yield made


async def test_a_next_key_signs_from_the_end_of_the_last_set_without_it(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        new = await it.next()
        ready = it.keys.ring.ready_at(MAX_AGE)
        assert ready is not None
        assert 0 <= ready - it.clock.seconds() - MAX_AGE - SPREAD_SECONDS + 1 <= 2
        it.clock.by = timedelta(seconds=MAX_AGE + SPREAD_SECONDS - 2)
        with pytest.raises(AdminRefused, match="only by force"):
            await it.rotation.activate(new, force=False, actor=OPERATOR)
        it.clock.by = timedelta(seconds=MAX_AGE + SPREAD_SECONDS + 1)
        await it.rotation.activate(new, force=False, actor=OPERATOR)
        assert it.keys.key_id == it.keys.active().key_id == new
        assert it.followers.followed[-1].active.key_id == new
        assert it.told() == [
            ("key_activated", "start", ""),
            ("key_prepared", "operator", OPERATOR),
            ("key_activated", "operator", OPERATOR),
        ]


async def test_a_retired_key_goes_when_its_last_token_is_over_and_not_before(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        old = it.keys.key_id
        last = it.clock.seconds() + 7200
        await it.ledger.write(record(token_id="a", expires_at=last), record(token_id="b", expires_at=last - 3600))
        await it.activate()
        await it.look()
        assert it.over() is None, "calls that it could sign for may be under way"
        it.clock.by = timedelta(seconds=SETTLE_SECONDS + 1)
        await it.look()
        assert it.over() == last + LEEWAY_SECONDS
        with pytest.raises(AdminRefused, match="may be alive until"):
            await it.rotation.remove(old, force=False, actor=OPERATOR)
        it.clock.by = timedelta(seconds=7200 + LEEWAY_SECONDS - 5)
        await it.look()
        assert old in it.published()
        it.clock.by = timedelta(seconds=7200 + LEEWAY_SECONDS + 1)
        await it.look()
        assert old not in it.published()
        assert old in [each.key_id for each in it.keys.known_keys().keys], "checkpoints that it signed are kept"
        assert it.told()[-1] == ("key_removed", "over", "")
        assert it.folder.kept() == it.keys.ring


async def test_a_key_that_signed_no_token_stays_for_the_lists_that_it_signed(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        await it.activate()
        it.clock.by = timedelta(seconds=SETTLE_SECONDS + 1)
        await it.look()
        (former,) = it.keys.ring.former
        assert former.over == former.retired + LISTS + LEEWAY_SECONDS


async def test_a_ledger_that_cannot_be_written_changes_no_key(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        old, new = it.keys.key_id, await it.next()
        it.rotation = it._rotation(AwayLedger(), LedgerRevocations())
        with pytest.raises(TemporarilyUnavailable):
            await it.rotation.activate(new, force=True, actor=OPERATOR)
        with pytest.raises(TemporarilyUnavailable):
            await it.rotation.remove(new, force=True, actor=OPERATOR)
        assert (it.keys.key_id, it.published()) == (old, [old, new])
        assert it.folder.open(it.clock.seconds()).ring == it.keys.ring, "nor what a restart would find"


async def test_a_next_key_that_could_not_be_recorded_is_not_left_behind(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        it.rotation = it._rotation(AwayLedger(), LedgerRevocations())
        with pytest.raises(TemporarilyUnavailable):
            await it.rotation.prepare(actor=OPERATOR)
        assert not it.folder.next_file.exists()
        assert it.published() == [it.keys.key_id]


async def test_a_folder_that_cannot_be_written_keeps_its_one_key(tmp_path: Path) -> None:
    """As a key that is mounted read-only; the test may run as root, whom no mode stops, so a folder is in the way."""
    async with issuer(tmp_path) as it:
        it.folder.next_file.mkdir()
        with pytest.raises(TemporarilyUnavailable, match="is not a regular file") as refused:
            await it.rotation.prepare(actor=OPERATOR)
        assert refused.value.reason is Reason.SIGNER_UNAVAILABLE
        assert it.published() == [it.keys.key_id]


async def test_a_ring_that_cannot_be_kept_is_told_and_stops_no_start(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        it.folder.ring_file.unlink()
        it.folder.ring_file = it.folder.ring_file / "no folder" / "at all"
        await it.activate()
        assert "keys_not_kept" in [call.args[0] if call.args else call.kwargs["event"] for call in it.log.calls]


async def test_files_that_hold_another_next_key_are_not_activated(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        new = await it.next()
        it.folder.drop_next()
        it.folder.make_next()
        with pytest.raises(AdminRefused, match="not the next key"):
            await it.rotation.activate(new, force=True, actor=OPERATOR)
        assert it.keys.ring.next is not None
        assert it.keys.ring.next.jwk.key_id != new
        assert [each[:2] for each in it.told()[-2:]] == [("key_removed", "files"), ("key_prepared", "files")]


async def test_keys_are_bounded(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        for _ in range(MAX_PUBLISHED - 1):
            await it.activate()
        with pytest.raises(AdminRefused, match="16 keys are published"):
            await it.rotation.prepare(actor=OPERATOR)


async def test_a_change_ends_though_its_caller_does_not_wait(tmp_path: Path) -> None:
    """The transport cancels a call whose deadline has passed; half a rotation must not be."""
    async with issuer(tmp_path) as it:
        new = await it.next()
        call = asyncio.create_task(it.rotation.activate(new, force=True, actor=OPERATOR))
        await asyncio.sleep(0)
        call.cancel()
        await eventually_true(lambda: it.keys.key_id == new)
        await eventually_true(lambda: it.folder.kept() == it.keys.ring)


async def test_an_activation_that_another_issuer_was_quicker_with_is_done(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        new = await it.next()
        it.folder.activate(new)
        it.folder.activate(new)
        await it.rotation.activate(new, force=True, actor=OPERATOR)
        assert it.keys.key_id == new
        assert it.told()[-1][:2] == ("key_activated", "files"), "it was in the files before it was asked for"


async def test_a_key_that_others_put_in_the_place_of_the_next_one_is_not_activated_for_it(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        new = await it.next()
        it.folder.drop_next()
        it.folder.make_next()
        with pytest.raises(KeyFileError, match=f"does not hold the key {new}"):
            it.folder.activate(new)
        it.folder.drop_next()
        with pytest.raises(KeyFileError, match=f"does not hold the key {new}"):
            it.folder.activate(new)


async def test_a_change_begins_from_what_another_issuer_did_a_moment_ago(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        it.folder.make_next()
        made = it.folder.open(it.clock.seconds()).next
        assert made
        assert await it.next() == made.key_id
        assert it.told()[-1][:2] == ("key_prepared", "files")


async def test_a_key_that_lies_in_the_place_of_the_active_one_is_not_taken_by_a_change(tmp_path: Path) -> None:
    async with issuer(tmp_path) as it:
        old = it.keys.key_id
        KeyFileSigner.open_or_create(tmp_path / "other" / "key.pem")
        shutil.copy(tmp_path / "other" / "key.pem", it.folder.file)
        with pytest.raises(AdminRefused, match="is not published"):
            await it.rotation.prepare(actor=OPERATOR)
        assert (it.keys.key_id, it.published()) == (old, [old])


class Unlike(KeySharing):
    """Says what a test lets it say."""

    said = ""

    def fault(self, ring: KeyRing) -> str:
        return self.said


async def test_an_issuer_whose_keys_are_unlike_those_of_others_stops_unless_it_follows_by_the_next_look(
    tmp_path: Path,
) -> None:
    async with issuer(tmp_path) as it:
        unlike = Unlike(it.ledger, None, it.clock)
        it.rotation = it._rotation(it.ledger, LedgerRevocations(), sharing=unlike)
        for said in ("they have other keys", "", "they have other keys"):
            unlike.said = said
            await it.look()
            assert it.rotation.fault == ""
        with pytest.raises(AdminRefused, match="other keys"):
            await it.activate()
        stop = asyncio.Event()
        await it.rotation.run(stop)
        assert stop.is_set()
        assert it.rotation.fault == "they have other keys"
