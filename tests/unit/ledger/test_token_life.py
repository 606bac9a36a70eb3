"""What every store tells of a token's life: what it rested on, and what killed it or one above it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.approvals import begun, given, question, using
from support.ledgers import group_commit, record, revoking

from issuer.core.approvals import Approved
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import INTENT, INTENT_EXPIRED, StepTaken
from issuer.core.origin import Origin, OriginKind, origin_text
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Issued, Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.ledger.token_life import life_of
from issuer.system import SystemClock

if TYPE_CHECKING:
    from support.stores import Store

ALICE = "spiffe://prod.example/alice"


def told(store: Store, token_id: str) -> list[tuple[str, str]]:
    return [(each.kind, json.loads(each.detail).get("why", "")) for each in life_of(store.reader, token_id)]


async def test_an_approval_its_use_and_the_end_are_told_in_their_order(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    asked = question(age=1_000_000)
    await ledger.write(begun(asked))
    await ledger.write(given(asked))
    approved = Approved(asked.id, 3, asked.asked.digest, "", ("refund",), None, asked.over_at, 1)
    used = using(approved, token_id="t1")
    await ledger.write(used, record(token_id="t2"))
    single = Selector(token="t1", audience=used.audience)
    await ledger.write(revoking(single, expires_at=used.expires_at, why="seen in a log"))
    await ledger.write(revoking(Selector(workload=parse_pattern(used.caller)), why="INC-7"))
    await ledger.write(revoking(Selector(audience="https://other.example"), why="another matter"))
    await ledger.close()
    revoked = [("revocation_made", "seen in a log"), ("revocation_made", "INC-7")]
    assert told(store, "t1") == [("approval_requested", ""), ("approval_given", ""), *revoked]
    assert told(store, "unknown") == []


async def test_what_is_above_a_token_is_told_too(store: Store) -> None:
    ledger = group_commit(store.engine())
    await ledger.open()
    now = microseconds(SystemClock().now())
    above = Issued(SpiffeId.parse(ALICE), "https://orders", "", ("g",), "sha256:0", "k", now, "above", ("intent/i-1",))
    rests: dict[str, Any] = {"actors": (), "ancestors": (above,), "scopes": ("read",), "until": 10**18}
    origin = origin_text(Origin(OriginKind.EXCHANGE, "", 0, ALICE, **rests))
    await ledger.write(StepTaken(INTENT_EXPIRED, INTENT, "i-1", 2, now, "", "{}", now + 10**9))
    await ledger.write(StepTaken(INTENT_EXPIRED, INTENT, "i-10", 2, now, "", "{}", now + 10**9))
    await ledger.write(record(token_id="below", origin=origin))
    await ledger.write(revoking(Selector(token="above", audience="https://orders"), expires_at=now // 10**6 + 60))
    await ledger.close()
    assert told(store, "below") == [("intent_expired", ""), ("revocation_made", "a leak")]
