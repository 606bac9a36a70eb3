"""Callers who ask at the same moment are served together."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING

from issuer.issuance import TokenAsk
from issuer.core.errors import TemporarilyUnavailable
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from issuer.issuance import Asked, Issuance, IssuedToken, LogFields, Wanted

LIMIT = int(os.environ.get("GATHER_LIMIT", "1000"))
MODE = os.environ.get("GATHER_MODE", "tick")


class Gathering:
    """Serves them together."""

    def __init__(self, issuance: Issuance) -> None:
        self._issuance = issuance
        self._waiting: list[tuple[TokenAsk, asyncio.Future]] = []
        self._under_way = 0
        self.sizes = []

    async def issue_token(self, asked: Asked, wanted: Wanted, told: LogFields | None) -> IssuedToken | Exception:
        if MODE == "off":
            [outcome] = await self._issuance.issue_tokens(asked, [wanted], told)
            return outcome
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((TokenAsk(asked, wanted, told), done))
        if len(self._waiting) == 1 and self._under_way < LIMIT:
            loop.call_soon(self._begin)
        try:
            return await done
        except (EpochMoved, ClaimTaken):
            [outcome] = await self._issuance.issue_tokens(asked, [wanted], told)
            return outcome

    def _begin(self) -> None:
        if not self._waiting or self._under_way >= LIMIT:
            return
        group, self._waiting = self._waiting, []
        self._under_way += 1
        self.sizes.append(len(group))
        if len(self.sizes) == 500:
            print("group", sum(self.sizes) / len(self.sizes), max(self.sizes), flush=True)
            self.sizes = []
        asyncio.get_running_loop().create_task(self._issue(group))

    async def _issue(self, group) -> None:
        try:
            outcomes = await self._issuance.issue_once([ask for ask, _ in group], None)
        except Exception as error:
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
        else:
            for (_, done), outcome in zip(group, outcomes, strict=True):
                if not done.done():
                    done.set_result(outcome)
        finally:
            self._under_way -= 1
            self._begin()
