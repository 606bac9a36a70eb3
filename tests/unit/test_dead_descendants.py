"""Tokens that died with one above them: found once, told by number, and forgotten when they expire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from support.ledgers import revoking

from issuer import dead_descendants
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.patterns import parse_pattern
from issuer.core.recorded_tokens import RecordedToken
from issuer.core.revocation import Issued, Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.dead_descendants import DeadDescendants
from issuer.ledger.engine import RevocationRow
from issuer.ledger.revocation_book import LedgerRevocations

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SECOND = int(NOW.timestamp())
AGENT, USER = (SpiffeId.parse(f"spiffe://prod.example/{name}") for name in ("agent", "user"))


@dataclass
class Clock:
    """A clock that a test sets."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time


@dataclass
class Tokens:
    """The living tokens that were made from others."""

    living: list[RecordedToken] = field(default_factory=list)
    away: bool = False
    looks: int = 0

    async def resting(self, now: int, limit: int) -> Sequence[RecordedToken]:
        self.looks += 1
        if self.away:
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "away")
        return [token for token in self.living if token.expires_at > now][:limit]

    async def hits(self, *_: object) -> NoReturn:
        raise NotImplementedError

    async def issued(self, *_: object) -> NoReturn:
        raise NotImplementedError

    async def revoked_after(self, *_: object) -> NoReturn:
        raise NotImplementedError

    async def revocations(self, *_: object) -> NoReturn:
        raise NotImplementedError


def issued(token_id: str, caller: SpiffeId, *ancestors: Issued) -> Issued:
    return Issued(caller, "https://api", "", ("g",), "sha256:0", "", SECOND * 1_000_000, token_id, (), ancestors)


def made_from(token_id: str, *above: str, seq: int = 1, end: int = SECOND + 300) -> RecordedToken:
    return RecordedToken(seq, end, issued(token_id, AGENT, *(issued(each, USER) for each in above)))


@dataclass
class Scene:
    """What a stream of revocations sees."""

    revocations: LedgerRevocations = field(default_factory=LedgerRevocations)
    tokens: Tokens = field(default_factory=Tokens)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.found = DeadDescendants(self.revocations, self.tokens, self.clock)

    def revoke(self, selector: Selector) -> None:
        end = SECOND + 300 if selector.token else None
        made = revoking(selector, expires_at=end, time=SECOND * 1_000_000)
        version = self.revocations.version + 1
        row = RevocationRow(version, made.id, made.time, made.actor, made.event(10, version).detail, None, None)
        self.revocations.learn([row], NOW)

    def told(self, number: int = 0) -> list[str]:
        return [each.token_id for each in self.found.from_number(number)]


async def test_a_token_dies_with_any_above_it_and_no_other_does() -> None:
    scene = Scene()
    scene.tokens.living = [
        made_from("child", "root"),
        made_from("grandchild", "child", "root"),
        made_from("other", "x"),
    ]
    assert await scene.found.look()
    assert scene.told() == []
    scene.revoke(Selector(token="root"))
    assert await scene.found.look()
    assert scene.told() == ["child", "grandchild"]


async def test_a_token_dies_with_what_its_ancestor_was_revoked_by() -> None:
    scene = Scene()
    scene.tokens.living = [made_from("child", "root")]
    scene.revoke(Selector(workload=parse_pattern(str(USER))))
    await scene.found.look()
    assert scene.told() == ["child"], "its own caller is another"


async def test_each_is_told_once_from_where_a_stream_is() -> None:
    scene = Scene()
    scene.tokens.living = [made_from("a", "1"), made_from("b", "2")]
    scene.revoke(Selector(token="1"))
    await scene.found.look()
    assert scene.found.first_of(0) == 0
    next_number = scene.found.from_number(0)[-1].number + 1
    scene.revoke(Selector(token="2"))
    await scene.found.look()
    assert scene.told(next_number) == ["b"]
    assert scene.told(scene.found.first_of(2)) == ["b"], "what a stream may not know that was told version 2"
    assert scene.told(scene.found.first_of(3)) == []


async def test_without_anything_new_the_ledger_is_asked_once_more_when_it_has_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_descendants, "SETTLED_SECONDS", 0.2)
    scene = Scene()
    scene.revoke(Selector(token="root"))
    for _ in range(3):
        await scene.found.look()
    assert scene.tokens.looks == 1
    scene.tokens.living = [made_from("late", "root")]  # decided before the revocation, recorded after the look
    deadline = asyncio.get_running_loop().time() + 10
    while not scene.told() and asyncio.get_running_loop().time() < deadline:
        await scene.found.look()
        await asyncio.sleep(0.01)
    assert scene.told() == ["late"]
    await scene.found.look()
    assert scene.tokens.looks == 2


async def test_while_the_ledger_is_away_not_all_are_known() -> None:
    scene = Scene()
    scene.tokens.away = True
    assert not await scene.found.look()
    assert not await scene.found.look()
    scene.tokens.away = False
    assert await scene.found.look()


async def test_with_more_than_are_looked_at_not_all_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_descendants, "MAX_LOOKED_AT", 1)
    scene = Scene()
    scene.tokens.living = [made_from("a", "1"), made_from("b", "1")]
    assert not await scene.found.look()


async def test_those_that_expired_are_forgotten() -> None:
    scene = Scene()
    scene.tokens.living = [made_from("a", "1", end=SECOND + 10), made_from("b", "1", end=SECOND + 100)]
    scene.revoke(Selector(token="1"))
    await scene.found.look()
    scene.clock.time = datetime.fromtimestamp(SECOND + 10, UTC)
    scene.revoke(Selector(token="2"))
    await scene.found.look()
    assert scene.told() == ["b"]
