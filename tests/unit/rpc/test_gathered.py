"""Calls that come one by one, and are handed over together."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from google.rpc.status_pb2 import Status
from support.deployment import LEDGER, POLICY, READER, REQUEST, SETTLER
from support.eventually import eventually_true
from support.in_process import InProcess, in_process

from issuer.rpc.gathered import Gathered
from issuer.rpc.together import Together
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REFUSED = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"])


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with in_process(tmp_path, POLICY) as opened:
        opened.is_verified(SETTLER, READER)
        yield opened


def gathered(issuer: InProcess) -> Gathered:
    return Gathered(partial(Together, issuer.pipeline, issuer.methods, issuer.policies, issuer.fact_book, 2.5))


async def answer(calls: Gathered, issuer: InProcess, message: pb.IssueTokenRequest | bytes) -> bytes | Status | None:
    asking = issuer.asking(message, SETTLER)
    return await calls.answer(asking.call, asking.message)


async def test_each_call_gets_its_own_answer(issuer: InProcess) -> None:
    calls = gathered(issuer)
    token, refusal, unreadable = await asyncio.gather(
        answer(calls, issuer, REQUEST), answer(calls, issuer, REFUSED), answer(calls, issuer, b"\xff")
    )
    assert isinstance(token, bytes)
    assert pb.IssueTokenResponse.FromString(token).token
    assert isinstance(refusal, Status)
    assert unreadable is None, "it is answered alone, by whoever can say what is wrong with it"


async def test_who_leaves_before_the_answer_keeps_it_from_nobody(issuer: InProcess) -> None:
    calls = gathered(issuer)
    before, after, stays = (asyncio.ensure_future(answer(calls, issuer, REQUEST)) for _ in range(3))
    await asyncio.sleep(0)  # all have come, none is handed over
    before.cancel()
    await asyncio.sleep(0)
    after.cancel()
    assert isinstance(await stays, bytes)
    assert before.cancelled()
    assert after.cancelled()


async def test_who_leaves_holds_no_turn(issuer: InProcess) -> None:
    calls = gathered(issuer)
    leaves = asyncio.ensure_future(answer(calls, issuer, REQUEST))
    while not issuer.turns.running:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)  # no longer: it would have its answer
    leaves.cancel()
    await eventually_true(lambda: issuer.turns.running == 0)
