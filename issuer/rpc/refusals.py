"""Tells callers that their calls are one too many, those of a moment together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from issuer.rpc.status import status_from_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.rpc.status_pb2 import Status

    from issuer.core.errors import RateLimited
    from issuer.rpc.turns import TurnedAway


class Refusals:
    """Refusals on their way.

    Args:
        tell: Is told them by the ids of their calls, never while one is added.
    """

    def __init__(self, tell: Callable[[list[tuple[int, bytes | Status]]], None]) -> None:
        self._tell = tell
        self._due: list[tuple[int, bytes | Status]] = []

    def add(self, number: int, refusal: RateLimited) -> None:
        """Refuse the call of this id now."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._tell_all)
        self._due.append((number, status_from_error(refusal, "")))

    def add_when_due(self, number: int, found: TurnedAway, then: Callable[[], None] = lambda: None) -> None:
        """Refuse the call of this id when that is to be told, and do ``then`` before it."""

        def add(_: object = None) -> None:
            then()
            self.add(number, found.refusal)

        if found.held is None:
            add()
        else:
            found.held.add_done_callback(add)

    def _tell_all(self) -> None:
        due, self._due = self._due, []
        self._tell(due)
