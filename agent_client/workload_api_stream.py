"""One stream of the SPIFFE Workload API, followed for as long as a process lives.

Every answer replaces one immutable value. What is wrong in an answer costs only what it concerns; that is for whoever
reads it. The streams that are followed are :class:`~agent_client.workload_api.WorkloadApiWatcher` (SVIDs and X.509
authorities) and :class:`~agent_client.jwt_bundles.JwtBundleWatcher` (authorities of JWT-SVIDs).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote

import grpc
from spiffe._proto import workload_pb2_grpc

from agent_client.workload_api_errors import WorkloadApiError, WorkloadApiUnavailable, diagnose
from agent_client.workload_api_socket import socket_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Context = TypeVar("Context")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
PARKING_SECONDS = 1.0
"""How long a fork waits at most for a stream to end; a cancelled one does within milliseconds."""
_CHANNEL_OPTIONS = (
    # A connection of its own: the pauses of the process-wide pool would outlast ours.
    ("grpc.use_local_subchannel_pool", 1),
)
METADATA = (("workload.spiffe.io", "true"),)  # SPIFFE Workload Endpoint section 3: without it, the call is refused
"""What every call carries."""
_logger = logging.getLogger("agent_client.workload_api")


class WorkloadApiStream(ABC, Generic[Context]):
    """Keeps the newest answer in memory. Thread-safe; its own work is in one daemon thread.

    While the Workload API is away, the last answer stays, and it is dialled again with growing pauses until
    :meth:`close`. Whether something in that answer has expired meanwhile is for its user to check: nothing here looks
    at the clock.

    Args:
        socket: ``unix:///path``; without it, ``SPIFFE_ENDPOINT_SOCKET`` decides.

    Raises:
        WorkloadApiNotConfigured: Neither is set, or it is not the address of a UNIX socket.
    """

    def __init__(self, socket: str | None = None) -> None:
        self._target = socket_target(socket)
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._parked = 0
        self._dialling = False
        self._context: Context | None = None
        self._error: WorkloadApiError | None = None
        self._stream: grpc.Call | None = None
        self._subscribers: list[Callable[[Context], None]] = []
        self._thread = threading.Thread(target=self._follow, name="workload-api", daemon=True)

    @property
    def socket(self) -> str:
        """The address that is dialled."""
        return self._target

    @property
    def last_error(self) -> WorkloadApiError | None:
        """Why the stream is down; ``None`` while it is up."""
        return self._error

    def start(self) -> None:
        """Begin to follow. Call once."""
        self._thread.start()

    def wait_for_first(self, timeout: float) -> Context:
        """Return the context as soon as there is one.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            WorkloadApiError: There was none in time: the last reason why, with what to do about it.
        """
        with self._news:
            self._news.wait_for(lambda: self._context is not None or self._closing.is_set(), timeout)
            if self._context is not None:
                return self._context
            raise self._error or WorkloadApiUnavailable(f"no answer from {self._target} within {timeout:.0f} s")

    def current(self) -> Context:
        """Return the newest context.

        Raises:
            WorkloadApiError: There has been none yet.
        """
        if self._context is None:
            raise self._error or WorkloadApiUnavailable(f"{self._target} has not answered yet")
        return self._context

    def subscribe(self, callback: Callable[[Context], None]) -> None:
        """Call ``callback`` with every new context from now on, in the watcher's thread. It must not block."""
        with self._news:
            self._subscribers.append(callback)

    def park(self) -> None:
        """Leave gRPC alone until :meth:`resume`: for a fork, which a thread amid gRPC does not go well with.

        The context stays, and a stream that ends by this is no failure.
        """
        with self._news:
            self._parked += 1
            if self._stream is not None:
                self._stream.cancel()
            if threading.current_thread() is not self._thread:
                self._news.wait_for(lambda: not self._dialling, PARKING_SECONDS)

    def resume(self) -> None:
        """Follow again, after :meth:`park`."""
        with self._news:
            self._parked -= 1
            self._news.notify_all()

    def close(self) -> None:
        """Stop following and wait for the thread. The last context stays readable."""
        with self._news:
            self._closing.set()
            self._news.notify_all()
            if self._stream is not None:
                self._stream.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._may_dial():
            if self._follow_one_stream():
                pause = FIRST_PAUSE_SECONDS
            with self._news:
                self._dialling = False
                self._news.notify_all()
            # Jitter: many workloads lose the same agent at the same moment.
            self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _may_dial(self) -> bool:
        """Wait while parked; return whether to go on."""
        with self._news:
            self._news.wait_for(lambda: self._closing.is_set() or not self._parked)
            self._dialling = not self._closing.is_set()
            return self._dialling

    def _follow_one_stream(self) -> bool:
        """Follow one stream to its end; return whether it brought a context."""
        brought = False
        # gRPC reads the target as a URI: without the quoting, "#" in a path would end it.
        with grpc.insecure_channel(quote(self._target, safe="/:"), _CHANNEL_OPTIONS) as channel:
            stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]
            try:
                for answer in self._open(stub):
                    self._take(answer)
                    brought = True
                self._fail(WorkloadApiUnavailable(f"{self._target} ended the stream"))
            except WorkloadApiError as error:
                self._fail(error)
            except grpc.RpcError as error:
                self._fail(diagnose(error, self._target))
            except Exception as error:
                # The last resort: a watcher that ended here would look alive, and its context would silently grow old.
                _logger.exception("following the Workload API failed")
                self._fail(WorkloadApiUnavailable(f"{self._target} gave what cannot be read: {type(error).__name__}"))
        return brought

    @abstractmethod
    def _call(self, stub: workload_pb2_grpc.SpiffeWorkloadAPIStub) -> Any:  # noqa: ANN401 - grpcio has no types
        """Begin the stream."""

    @abstractmethod
    def _read(self, answer: Any) -> Context:  # noqa: ANN401 - the stub's
        """Return what an answer says.

        Raises:
            WorkloadApiError: It says nothing that can be used.
        """

    def _open(self, stub: workload_pb2_grpc.SpiffeWorkloadAPIStub) -> Iterator[object]:
        stream = self._call(stub)
        with self._news:
            self._stream = stream
            if self._closing.is_set() or self._parked:
                stream.cancel()
        answers: Iterator[object] = stream
        return answers

    def _take(self, answer: object) -> None:
        context = self._read(answer)
        with self._news:
            back = self._error is not None
            self._context, self._error = context, None
            subscribers = tuple(self._subscribers)
            self._news.notify_all()
        if back:
            _logger.info("the Workload API is back: %s", self._target)
        for callback in subscribers:
            with _logged():
                callback(context)

    def _fail(self, error: WorkloadApiError) -> None:
        with self._news:
            self._stream = None
            if self._closing.is_set() or self._parked:
                return
            changed = str(error) != str(self._error)
            self._error = error
        if changed:
            _logger.warning("the Workload API is away: %s", error)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Keep the stream alive when a subscriber fails."""
    try:
        yield
    except Exception:
        _logger.exception("a subscriber of the Workload API failed")
