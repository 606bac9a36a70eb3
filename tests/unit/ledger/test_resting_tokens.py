"""What every store tells of tokens that rest on others, and of what was revoked since."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.ledgers import group_commit, record, revoking

from issuer.core.origin import Actor, Origin, OriginKind, origin_text
from issuer.core.revocation import Issued, Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.token_book import LedgerTokenBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.stores import Store

    from issuer.ledger.group_commit import GroupCommit

ALICE = SpiffeId.parse("spiffe://prod.example/alice")
ABOVE = Issued(ALICE, "https://orders", "", ("g",), "sha256:0", "kid", 7, "above")


def resting_on(*ancestors: Issued) -> str:
    actors = (Actor("spiffe://prod.example/b", "spiffe://prod.example"),)
    return origin_text(Origin(OriginKind.EXCHANGE, "", 0, str(ALICE), actors, ancestors, ("read",), 10**18))


@pytest.fixture
async def ledger(store: Store) -> AsyncIterator[GroupCommit]:
    opened = group_commit(store.engine(), revocations=LedgerRevocations())
    await opened.open()
    yield opened
    await opened.close()
    store.reader._kept.dispose()  # which a running issuer keeps


async def test_tells_the_living_tokens_that_rest_on_others_and_on_what(store: Store, ledger: GroupCommit) -> None:
    now = int(time.time())
    alive = {"expires_at": now + 60}
    await ledger.write(
        record(token_id="rests", origin=resting_on(ABOVE), **alive),
        record(token_id="rests-on-nobody", origin=resting_on(), **alive),
        record(token_id="plain", **alive),
        record(token_id="over", origin=resting_on(ABOVE), expires_at=now),
    )
    resting = await LedgerTokenBook(store.reader).resting(now, 10)
    [found] = [token for token in resting if token.issued.ancestors]
    assert (found.issued.token_id, found.expires_at) == ("rests", now + 60)
    [above] = found.issued.ancestors
    assert (above.token_id, above.caller, above.key) == ("above", ALICE, "kid")


async def test_tells_the_single_tokens_that_were_revoked_after_a_version(store: Store, ledger: GroupCommit) -> None:
    tokens = LedgerTokenBook(store.reader)
    for selector in (Selector(token="a", audience="x"), Selector(everything=True), Selector(token="b", audience="x")):
        await ledger.write(revoking(selector))
    assert [await tokens.revoked_after(version) for version in range(4)] == [{"a", "b"}, {"b"}, {"b"}, set()]
