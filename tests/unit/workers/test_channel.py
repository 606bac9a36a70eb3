"""Questions and answers between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from issuer.core.errors import AdminRefused, Reason, TemporarilyUnavailable
from issuer.workers.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def echo(kind: str, argument: Any) -> object:
    match kind:
        case "refuse":
            raise AdminRefused(Reason.POLICY_INVALID, "policy.yaml:1:1: no")
        case "away":
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "the ledger cannot be written")
        case "silence":
            await asyncio.Event().wait()
    return argument


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends of a channel, running."""
    sockets = socket.socketpair()
    one, other = [Channel(*await asyncio.open_unix_connection(sock=each), echo) for each in sockets]
    running = [asyncio.create_task(each.run()) for each in (one, other)]
    try:
        yield one, other
    finally:
        one.close()
        other.close()
        await asyncio.gather(*running)


async def test_both_ends_ask_and_are_answered_at_once() -> None:
    async with ends() as (one, other):
        asked = [each.ask("echo", number, within=5) for number in range(50) for each in (one, other)]
        assert await asyncio.gather(*asked) == [number for number in range(50) for _ in range(2)]


async def test_large_answers_come_whole() -> None:
    async with ends() as (one, _):
        assert await one.ask("echo", b"x" * 8_000_000, within=20) == b"x" * 8_000_000


async def test_a_refusal_is_raised_where_it_was_asked_as_what_it_is() -> None:
    async with ends() as (one, _):
        with pytest.raises(AdminRefused, match=r"policy\.yaml:1:1") as refused:
            await one.ask("refuse", within=5)
        assert refused.value.reason is Reason.POLICY_INVALID
        with pytest.raises(TemporarilyUnavailable):
            await one.ask("away", within=5)
        assert await one.ask("echo", 1, within=5) == 1


async def test_who_gets_no_answer_in_time_is_told_and_a_late_one_disturbs_nobody() -> None:
    async with ends() as (one, _):
        with pytest.raises(TimeoutError):
            await one.ask("silence", within=0.01)
        assert await one.ask("echo", 1, within=5) == 1


async def test_who_waits_learns_that_the_other_side_ended() -> None:
    async with ends() as (one, other):
        waiting = asyncio.create_task(one.ask("silence", within=60))
        await one.ask("echo", within=5)
        other.close()
        with pytest.raises(ChannelClosed):
            await waiting
        with pytest.raises(ChannelClosed):
            await one.ask("echo", within=5)
        one.tell("echo")  # nobody hears it
