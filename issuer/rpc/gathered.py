"""Calls that a transport brings one by one, handed over together: all that are there in a turn of the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from issuer.rpc.together import Asking

if TYPE_CHECKING:
    from google.rpc.status_pb2 import Status

    from issuer.rpc.call import Call
    from issuer.rpc.together import MakeTogether


class Gathered:
    """Calls of one turn of the event loop. For one event loop.

    Args:
        together: Makes what answers them, given what is told the answers.
    """

    def __init__(self, together: MakeTogether) -> None:
        self._together = together(tell=self._tell)
        self._come: list[Asking] = []
        self._answers: dict[int, asyncio.Future[bytes | Status | None]] = {}
        self._last = 0

    async def answer(self, call: Call, message: bytes) -> bytes | Status | None:
        """Return the serialized answer, or why there is none; ``None`` if the call is to be answered alone.

        Args:
            call: What the transport saw.
            message: The serialized request.
        """
        loop = asyncio.get_running_loop()
        if not self._come:
            loop.call_soon(self._hand_over)
        self._last += 1
        number = self._last
        self._come.append(Asking(call, message, number))
        answer = self._answers[number] = loop.create_future()
        try:
            return await answer
        finally:
            del self._answers[number]

    def _hand_over(self) -> None:
        come, self._come = self._come, []
        alone = self._together.take([each for each in come if each.id in self._answers])
        self._tell([(each.id, None) for each in alone])

    def _tell(self, answers: list[tuple[int, bytes | Status]] | list[tuple[int, None]]) -> None:
        for number, answer in answers:
            waiting = self._answers.get(number)  # whose client left does not wait
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
