"""Status lists out of a real ledger: what is revoked is in them, soon and after a restart; each is signed in time."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from structlog.testing import CapturingLogger
from support.eventually import eventually_true
from support.ledgers import group_commit, record, revoking

from issuer.core.base64url import base64url_decoded
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.key_ring import FormerKey, KeyRing
from issuer.core.origin import Origin, OriginKind, origin_text
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Issued, Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.core.status_index import Block, BlocksTaken, StatusIndex, first_list, hour_of, over_at
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.status_marks import LedgerStatusMarks
from issuer.signing.es256 import Es256Signer
from issuer.status_publishing import ONE_BY_ONE, Publishing, StatusPublisher
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from support.stores import Store

    from issuer.core.ledger_entries import Entry

ISSUER = "https://issuer.example"
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
OTHER = "spiffe://prod.example/ns/other/sa/other"
SIGNER = Es256Signer(generate_private_key(SECP256R1()))
TTL = 30


class Shifted:
    """The time, shifted by a test."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.by


class Shown:
    """What the public HTTP listener would show."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.gone: list[str] = []

    def show(self, name: str, text: str, max_age: int) -> None:
        if text:
            assert max_age == TTL
            self.texts.setdefault(name, []).append(text)
        else:
            self.gone.append(name)

    def claims(self, list_number: int, which: int = -1) -> dict[str, Any]:
        claims: dict[str, Any] = json.loads(base64url_decoded(self.texts[str(list_number)][which].split(".")[1]))
        return claims

    def bits(self, list_number: int) -> set[int]:
        """The entries that are not valid."""
        if str(list_number) not in self.texts:
            return set()
        entries = zlib.decompress(base64url_decoded(self.claims(list_number)["status_list"]["lst"]))
        return {8 * at + bit for at, byte in enumerate(entries) for bit in range(8) if byte >> bit & 1}


class Running:
    """An issuer, as far as status lists go, with tokens in one list."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Shifted()
        self.revocations, self.blocks = LedgerRevocations(SIGNER.key_id), BlocksTaken()
        self.ledger = group_commit(store.engine(), revocations=self.revocations, blocks=self.blocks)
        self.current = True
        self.looked = 0
        self.marks: Any = LedgerStatusMarks(store.reader)
        self.shown = Shown()
        self.logged = CapturingLogger()
        self.signer = SIGNER
        self.ring = KeyRing(SIGNER.public_key)
        now = int(self.clock.now().timestamp())
        self.list = first_list(hour_of(now + 300, now))

    def publisher(self) -> StatusPublisher:
        return StatusPublisher(
            Publishing(ISSUER, TTL, 600),
            revocations=self.revocations,
            is_current=self.is_current,
            blocks=self.blocks,
            marks=self.marks,
            signer=self.signer,
            keys=self.ring,
            clock=self.clock,
            show=self.shown.show,
            log=structlog.wrap_logger(
                self.logged, processors=[], wrapper_class=structlog.make_filtering_bound_logger(0)
            ),
        )

    def is_current(self) -> bool:
        self.looked += 1
        return self.current

    async def begin(self) -> None:
        await self.ledger.open()
        await self.ledger.write(Block(self.list, 1).taken(microseconds(self.clock.now())))

    def token(self, index: int, **changes: Any) -> Entry:
        return record(status=StatusIndex(self.list, index).number, **changes)

    def signed_by(self) -> str:
        header = json.loads(base64url_decoded(self.shown.texts[str(self.list)][-1].split(".")[0]))
        return str(header["kid"])

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.publisher().run())
        yield
        assert not task.done(), task.exception()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def shows(self, *indexes: int) -> None:
        wanted = set(indexes)
        await eventually_true(lambda: str(self.list) in self.shown.texts and self.shown.bits(self.list) == wanted)


@pytest.fixture
async def issuer(store: Store) -> AsyncIterator[Running]:
    running = Running(store)
    await running.begin()
    yield running
    await running.ledger.close()


async def test_a_new_list_is_signed_before_anything_is_revoked(issuer: Running) -> None:
    async with issuer.publishing():
        await issuer.shows()
        another = Block(issuer.list + 1, 4)
        await issuer.ledger.write(another.taken(microseconds(issuer.clock.now())))
        await eventually_true(lambda: str(another.list_number) in issuer.shown.texts)
    claims = issuer.shown.claims(issuer.list)
    assert (claims["sub"], claims["iss"]) == (f"{ISSUER}/status-lists/{issuer.list}", ISSUER)
    assert (claims["exp"] - claims["iat"], claims["ttl"]) == (600, TTL)
    assert claims["status_list"]["aggregation_uri"] == f"{ISSUER}/status-lists"
    header = json.loads(base64url_decoded(issuer.shown.texts[str(issuer.list)][0].split(".")[0]))
    assert header == {"alg": "ES256", "kid": SIGNER.key_id, "typ": "statuslist+jwt"}


async def test_single_tokens_and_those_that_rest_on_them_are_set(issuer: Running) -> None:
    ancestor = Issued(SpiffeId.parse(SETTLER), "a", "", (), "", "", 1, token_id="parent")
    origin = Origin(OriginKind.EXCHANGE, "", 0, SETTLER, (), (ancestor,), ("read",), 2**60)
    await issuer.ledger.write(
        issuer.token(1, token_id="parent"),
        issuer.token(2, token_id="child", origin=origin_text(origin)),
        issuer.token(3, token_id="other"),
        record(token_id="without"),
    )
    async with issuer.publishing():
        await issuer.shows()
        await issuer.ledger.write(revoking(Selector(token="without"), expires_at=2**31))
        await issuer.ledger.write(revoking(Selector(token="parent"), expires_at=2**31))
        await issuer.shows(1, 2)
        await issuer.ledger.write(revoking(Selector(token="other"), expires_at=2**31))
        await issuer.shows(1, 2, 3)


async def test_tokens_that_are_hit_by_attributes_are_set_and_later_ones_are_not(issuer: Running) -> None:
    origin = Origin(OriginKind.INTENT, "i1", 1, OTHER, (), (), ("read",), 2**60)
    await issuer.ledger.write(
        issuer.token(1),
        issuer.token(2, caller=OTHER),
        issuer.token(3, caller=OTHER, origin=origin_text(origin)),
        issuer.token(4, expires_at=1, caller=OTHER),
    )
    async with issuer.publishing():
        await issuer.ledger.write(
            revoking(Selector(workload=parse_pattern("spiffe://prod.example/ns/payments/**")), stops_issuance=False)
        )
        await issuer.shows(1)
        await issuer.ledger.write(issuer.token(5))
        await issuer.ledger.write(revoking(Selector(basis="intent/i1")))
        await issuer.shows(1, 3)
        await issuer.ledger.write(revoking(Selector(key="another key")))
        await issuer.ledger.write(revoking(Selector(audience="https://another.example")))
        await issuer.ledger.write(revoking(Selector(key=SIGNER.key_id)))
        await issuer.shows(1, 2, 3, 5)


@pytest.mark.parametrize("others", [0, ONE_BY_ONE + 1])
async def test_a_new_issuer_sets_all_that_was_revoked_before_it_signs(issuer: Running, others: int) -> None:
    """Its first list is whole already: nobody ever sees one without."""
    await issuer.ledger.write(issuer.token(1, token_id="one"), issuer.token(2, caller=OTHER), issuer.token(3))
    await issuer.ledger.write(revoking(Selector(token="one"), expires_at=2**31))
    await issuer.ledger.write(revoking(Selector(workload=parse_pattern(OTHER))))
    for number in range(others):
        await issuer.ledger.write(revoking(Selector(audience=f"https://another.example/{number}")))
    await issuer.ledger.write(issuer.token(4, caller=OTHER))
    async with issuer.publishing():
        await issuer.shows(1, 2)
    assert len(issuer.shown.texts[str(issuer.list)]) == 1


@pytest.mark.parametrize("others", [0, ONE_BY_ONE + 1])
async def test_what_a_retired_key_signed_is_set_when_that_is_revoked_and_what_came_after_is_not(
    issuer: Running, others: int
) -> None:
    retired, now = Es256Signer(generate_private_key(SECP256R1())), issuer.clock.now()
    changed = int(now.timestamp()) - 1000
    issuer.ring = KeyRing(SIGNER.public_key, changed, None, (FormerKey(retired.public_key, 0, changed),))
    before = microseconds(now - timedelta(seconds=2000))
    origins = [Origin(OriginKind.INTENT, "i1", use, OTHER, (), (), ("read",), 2**60) for use in (1, 2)]
    await issuer.ledger.write(
        issuer.token(1, time=before),
        issuer.token(2),
        issuer.token(3, time=before, origin=origin_text(origins[0])),
        issuer.token(4, origin=origin_text(origins[1])),
    )
    for number in range(others):
        await issuer.ledger.write(revoking(Selector(audience=f"https://another.example/{number}")))
    await issuer.ledger.write(revoking(Selector(key=retired.key_id)))
    async with issuer.publishing():
        await issuer.shows(1, 3)
    assert len(issuer.shown.texts[str(issuer.list)]) == 1


async def test_lists_are_signed_again_when_the_key_is_another(issuer: Running) -> None:
    publisher = issuer.publisher()
    task = asyncio.create_task(publisher.run())
    await issuer.shows()
    issuer.signer = publisher._signer = Es256Signer(generate_private_key(SECP256R1()))
    publisher.key_changed()
    await eventually_true(lambda: issuer.signed_by() == issuer.signer.key_id)
    task.cancel()


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
async def test_the_lists_of_one_issuer_know_what_another_issued_and_revoked(store: Store) -> None:
    one, other = Running(store), Running(store)
    await one.begin()
    await other.ledger.open()
    async with one.publishing(), other.publishing():
        await one.ledger.write(one.token(1, token_id="one"), one.token(2, caller=OTHER))
        await one.shows()
        await other.shows()
        await one.ledger.write(revoking(Selector(token="one"), expires_at=2**31))
        await other.shows(1)
        await other.ledger.write(revoking(Selector(workload=parse_pattern(OTHER))))
        await one.shows(1, 2)
    await one.ledger.close()
    await other.ledger.close()


async def test_each_change_has_a_newer_iat_so_that_an_older_list_can_be_told(issuer: Running) -> None:
    tokens = [issuer.token(number, token_id=f"t{number}") for number in range(4)]
    await issuer.ledger.write(*tokens)
    async with issuer.publishing():
        await issuer.shows()
        for number in range(4):
            await issuer.ledger.write(revoking(Selector(token=f"t{number}"), expires_at=2**31))
            await issuer.shows(*range(number + 1))
    count = len(issuer.shown.texts[str(issuer.list)])
    issued = [issuer.shown.claims(issuer.list, which)["iat"] for which in range(count)]
    assert count >= 5
    assert issued == sorted(set(issued))
    assert issuer.shown.claims(issuer.list)["iat"] <= SystemClock().now().timestamp()


async def test_it_is_signed_again_at_every_ttl_and_no_sooner(issuer: Running) -> None:
    async with issuer.publishing():
        await issuer.shows()
        first = issuer.shown.claims(issuer.list)["iat"]
        before = len(issuer.shown.texts[str(issuer.list)])
        await issuer.ledger.write(revoking(Selector(audience="https://another.example")))
        issuer.clock.by += timedelta(seconds=TTL)
        await issuer.ledger.write(revoking(Selector(audience="https://a-third.example")))
        await eventually_true(lambda: len(issuer.shown.texts[str(issuer.list)]) > before)
        assert issuer.shown.claims(issuer.list)["iat"] >= first + TTL - 1


async def test_a_clock_that_is_set_back_holds_up_no_revocation(issuer: Running) -> None:
    await issuer.ledger.write(issuer.token(1, token_id="one"))
    async with issuer.publishing():
        await issuer.shows()
        first = issuer.shown.claims(issuer.list)["iat"]
        issuer.clock.by -= timedelta(minutes=2)
        await issuer.ledger.write(revoking(Selector(token="one"), expires_at=2**31))
        await issuer.shows(1)
        assert issuer.shown.claims(issuer.list)["iat"] == first + 1


async def test_a_list_that_is_over_is_shown_no_more(issuer: Running) -> None:
    async with issuer.publishing():
        await issuer.shows()
        left = over_at(issuer.list) - issuer.clock.now().timestamp()
        issuer.clock.by += timedelta(seconds=left + 1)
        await issuer.ledger.write(revoking(Selector(audience="https://another.example")))
        await eventually_true(lambda: issuer.shown.gone == [str(issuer.list)])


async def test_while_it_is_not_known_what_was_revoked_nothing_is_signed(issuer: Running) -> None:
    issuer.current = False
    async with issuer.publishing():
        await eventually_true(lambda: issuer.looked > 0)
        assert issuer.shown.texts == {}
        issuer.current = True
        await issuer.shows()


class Unreadable:
    """A ledger that cannot be read."""

    async def of_tokens(self, *_: object) -> set[int]:
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "the ledger cannot be read")


async def test_what_cannot_be_read_is_told_once_and_tried_again(issuer: Running) -> None:
    await issuer.ledger.write(issuer.token(1, token_id="one"))
    await issuer.ledger.write(revoking(Selector(token="one"), expires_at=2**31))
    marks, issuer.marks = issuer.marks, Unreadable()
    publisher = issuer.publisher()
    task = asyncio.create_task(publisher.run())
    await eventually_true(lambda: len(issuer.logged.calls) > 0)
    assert issuer.shown.texts == {}, "a list without what was revoked is none"
    publisher._marks = marks
    await issuer.shows(1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [call.kwargs["event"] for call in issuer.logged.calls] == ["status_lists_not_kept", "status_lists_kept"]


class Broken(Es256Signer):
    """A key that signs when it is mended."""

    mended = False

    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        if not self.mended:
            raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the key cannot be used")
        return super().sign_all(signing_inputs)


async def test_a_key_that_cannot_be_used_is_tried_again(issuer: Running) -> None:
    issuer.signer = broken = Broken(generate_private_key(SECP256R1()))
    async with issuer.publishing():
        await eventually_true(lambda: len(issuer.logged.calls) > 0)
        assert issuer.shown.texts == {}
        broken.mended = True
        await issuer.shows()
