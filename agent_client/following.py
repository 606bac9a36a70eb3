"""One stream of answers of the issuer, for threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from agent_client import exchanges
from agent_client.balancer import Attempt
from agent_client.clock import elapsed, utc_now
from agent_client.errors import ClientClosed, IssuerRequestError
from agent_client.exchanges import Circumstances
from agent_client.failures import CallStatus, failure_of_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from agent_client.client import ClientCore
    from agent_client.credentials import ChannelMaterial
    from agent_client.exchanges import Exchange
    from agent_client.token_checks import CallerIdentity

Answer = TypeVar("Answer")


class Replaced(Exception):
    """The stream was ended so that it can be begun anew, with a newer identity."""


class Following(Generic[Answer]):
    """A stream from the best of the issuer's addresses. It is not begun again: that is for its user to do.

    Iterate over it once, in one thread; :meth:`cancel` it from any.

    Args:
        core: What the client holds.
        material: Returns what to connect with, at a monotonic time at the latest.
        exchange: What to ask for, and what each answer means.
    """

    def __init__(
        self,
        core: ClientCore[grpc.Channel],
        material: Callable[[float], ChannelMaterial],
        exchange: Exchange[Answer],
    ) -> None:
        self._core = core
        self._material = material
        self._exchange = exchange
        self._lock = threading.Lock()
        self._call: Any = None
        self._ending: Exception | None = None
        self._caller: CallerIdentity | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether there is a newer SVID than it was begun with. The issuer ends a stream when its SVID expires."""
        return self._caller is not None and self._core.caller not in {None, self._caller}

    def cancel(self, ending: Exception) -> None:
        """Let the iteration end with this error, wherever it is. The first one counts."""
        with self._lock:
            self._ending = self._ending or ending
            if self._call is not None:
                self._call.cancel()

    def __iter__(self) -> Iterator[Answer]:
        """Yield each answer.

        Raises:
            IssuerRequestError: The stream ended by a failure. Without one, the iteration ends.
            WorkloadApiError: There is no identity to call with.
            ClientClosed: The client was closed.
            Exception: What it was cancelled with.
        """
        course, attempt = self._core.course(None), Attempt()
        try:
            material = self._material(course.end)
            self._caller = material.caller
            circumstances = Circumstances(material.caller, elapsed(), utc_now())
            for message in self._messages(self._core.begin(course, attempt, material), attempt):
                answer = self._exchange.read(message, circumstances)
                self._core.succeeded(attempt)
                yield answer
        except IssuerRequestError as failure:
            self._core.failed(course, attempt, failure)
            raise
        finally:
            for channel in self._core.end(attempt):
                channel.close()

    def _messages(self, channel: grpc.Channel, attempt: Attempt) -> Iterator[Message]:
        messages = self._open(channel)
        try:
            yield from messages
        except grpc.RpcError as error:
            if (ending := self._ending) is not None:
                raise ending from None
            if self._core.closed:
                raise ClientClosed("this client was closed during the call") from error
            ended = CallStatus(error.code().value[0], error.details() or "", tuple(error.trailing_metadata() or ()))
            raise failure_of_call(ended, attempt.address) from error
        finally:
            self._call.cancel()  # without effect where it has ended

    def _open(self, channel: grpc.Channel) -> Iterator[Message]:
        with self._lock:
            if self._ending is not None:
                raise self._ending
            exchange = self._exchange
            try:
                method = channel.unary_stream(exchange.method, exchanges.serialize, exchange.parse)
                self._call = method(exchange.message)
            except ValueError as error:  # gRPC's answer to a call on a channel that was closed since it was leased
                if self._core.closed:
                    raise ClientClosed("this client was closed during the call") from error
                raise
        messages: Iterator[Message] = self._call
        return messages
