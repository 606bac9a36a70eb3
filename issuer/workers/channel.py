"""What passes between the supervisor and one worker: MessagePack over a socket pair, questions and answers both ways.

Both ends are this program. The end of the channel is the end of the other side, and nothing waits for that longer than
it takes to be noticed.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgpack

from issuer.core.errors import AdminRefused, IssuerError, Reason, TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LENGTH: Final = struct.Struct("!I")
_ASKED, _ANSWERED, _REFUSED = 0, 1, 2


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end.

    Args:
        reader: Where messages come from.
        writer: Where they go.
        answer: Answers a question of the other side, by its kind and argument. An ``IssuerError`` that it raises is
            raised at the other side; whatever else it raises is a defect, and ends the channel.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[str, Any], Awaitable[Any]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._number = 0
        self._closed = False

    async def run(self) -> None:
        """Answer, and take in answers, until the other side ends."""
        try:
            while True:
                length = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
                self._take(msgpack.unpackb(await self._reader.readexactly(length), raw=False))
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    async def ask(self, kind: str, argument: object = None, *, within: float) -> Any:  # noqa: ANN401 - as msgpack has it
        """Ask the other side, and return its answer.

        Args:
            kind: What is asked.
            argument: Of what MessagePack can carry.
            within: Seconds.

        Raises:
            AdminRefused: It refuses, as it would refuse a caller of the API.
            TemporarilyUnavailable: Likewise.
            TimeoutError: It did not answer in time.
            ChannelClosed: It is gone.
        """
        if self._closed:
            raise ChannelClosed
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send([_ASKED, number, kind, argument])
        try:
            async with asyncio.timeout(within):
                return await answer
        finally:
            self._waiting.pop(number, None)

    def tell(self, kind: str, argument: object = None) -> None:
        """Tell the other side something, and wait for nothing."""
        self._send([_ASKED, 0, kind, argument])

    async def drained(self) -> None:
        """Return when what was told has left."""
        with suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        """Close this end; whoever waits for an answer learns that there is none."""
        self._closed = True
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelClosed())

    def _send(self, message: list[object]) -> None:
        if not self._closed:
            packed: bytes = msgpack.packb(message, use_bin_type=True)
            self._writer.write(_LENGTH.pack(len(packed)) + packed)

    def _take(self, message: list[Any]) -> None:
        what, number, *rest = message
        if what == _ASKED:
            task = asyncio.get_running_loop().create_task(self._answered(number, *rest))
            self._answering.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._answering.discard)
            return
        answer = self._waiting.get(number)
        if answer is None or answer.done():  # nobody waits any more
            return
        if what == _ANSWERED:
            answer.set_result(rest[0])
        else:
            answer.set_exception(_refusal(Reason(rest[0]), rest[1]))

    async def _answered(self, number: int, kind: str, argument: Any) -> None:  # noqa: ANN401
        try:
            answer = await self._answer(kind, argument)
        except IssuerError as error:
            self._send([_REFUSED, number, error.reason.value, error.message])
        except BaseException:
            self.close()
            raise
        else:
            if number:
                self._send([_ANSWERED, number, answer])


def _refusal(reason: Reason, message: str) -> IssuerError:
    kind = TemporarilyUnavailable if reason is Reason.LEDGER_UNAVAILABLE else AdminRefused
    return kind(reason, message)
