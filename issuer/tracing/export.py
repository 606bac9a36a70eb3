"""Sends traced calls to a collector, by OTLP over HTTP, from a thread of its own.

No request waits for it: a call is put into a bounded queue, and what does not fit is dropped and counted. A batch that
the collector does not take in time is dropped as well, and counted; traces help people, and are no record.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from issuer.tracing.otlp import export_request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.tracing.attributes import Value
    from issuer.tracing.tracer import TracedCall

EXPORT_SECONDS: Final = 1.0
"""So often what is queued is sent."""
CALLS_AT_ONCE: Final = 64
"""In one message: at ten spans each some 60 KB."""
CALLS_AT_A_TIME: Final = 8
"""Encoded without giving way: about 0.3 ms, in which no request is answered, since a thread holds the interpreter."""
GIVE_WAY_SECONDS: Final = 0.001
MAX_ANSWER_BYTES: Final = 16 * 1024
"""A collector answers with nothing, or with how many spans it rejected."""
LEAVE_SECONDS: Final = 2.0
"""So long the issuer waits for the last batch when it stops."""


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Where traces go.

    Attributes:
        endpoint: The collector's URL, with its path (``/v1/traces``).
        timeout: For a batch, from connecting to the last byte of the answer.
        max_queue: How many calls may wait.
        ca_file: PEM of the authorities that its certificate may come from; the system's when ``None``.
    """

    endpoint: str
    timeout: timedelta
    max_queue: int
    ca_file: Path | None


class _NotTaken(Exception):
    """The collector did not take a batch; the message says why, for the log."""


class TraceExport:
    """The queue, and the thread that empties it.

    Args:
        settings: Where to.
        resource: What this issuer is.
        log: Is told once when the collector goes away, and once when it is back.
    """

    def __init__(self, settings: ExportSettings, resource: Mapping[str, Value], log: FilteringBoundLogger) -> None:
        self._settings = settings
        self._resource = resource
        self._log = log
        self._waiting: deque[TracedCall] = deque()
        self._batch = min(CALLS_AT_ONCE, settings.max_queue)
        self._wake = threading.Event()
        self._closing = False
        self._away: str | None = None
        self._client = httpx.Client(
            timeout=settings.timeout.total_seconds(),
            follow_redirects=False,
            trust_env=False,
            verify=httpx.create_ssl_context(verify=str(settings.ca_file)) if settings.ca_file else True,
        )
        self.sent = 0
        """Calls that the collector took."""
        self.not_taken = 0
        """Calls that it did not take."""
        self.no_room = 0
        """Calls that found the queue full."""
        self._thread = threading.Thread(target=self._run, name="trace-export", daemon=True)
        self._thread.start()

    def send(self, call: TracedCall) -> None:
        """Queue a call; drop it when there is no room. For one thread."""
        waiting = len(self._waiting)
        if waiting >= self._settings.max_queue:
            self.no_room += 1
            return
        self._waiting.append(call)
        if waiting + 1 == self._batch:
            self._wake.set()

    def close(self) -> None:
        """Send what is queued, as far as that is possible in two seconds, and leave."""
        self._closing = True
        self._wake.set()
        self._thread.join(LEAVE_SECONDS)
        if not self._thread.is_alive():
            self._client.close()

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            is_full = self._wake.wait(EXPORT_SECONDS)
            self._wake.clear()
            if not is_full:  # nobody was in a hurry for a second: whatever there is
                self._send_some()
            while len(self._waiting) >= self._batch or (self._closing and self._waiting):
                self._send_some()

    def _send_some(self) -> None:
        calls = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
        if calls:
            self._send_batch(calls)

    def _send_batch(self, calls: list[TracedCall]) -> None:
        try:
            self._post(self._encoded(calls))
        except (_NotTaken, httpx.HTTPError, OSError) as error:
            self.not_taken += len(calls)
            self._report(f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - a thread that ended here would look alive, and drop all that follows
            self.not_taken += len(calls)
            self._report(type(error).__name__)
        else:
            self.sent += len(calls)
            self._report(None)

    def _encoded(self, calls: list[TracedCall]) -> bytes:
        """Return the message for a batch, made in parts: the parts of a protobuf message put together are the whole."""
        parts = []
        for start in range(0, len(calls), CALLS_AT_A_TIME):
            few = calls[start : start + CALLS_AT_A_TIME]
            parts.append(export_request(few, self._resource).SerializeToString())
            time.sleep(GIVE_WAY_SECONDS)
        return b"".join(parts)

    def _post(self, body: bytes) -> None:
        give_up = time.monotonic() + self._settings.timeout.total_seconds()
        headers = {"content-type": "application/x-protobuf"}
        with self._client.stream("POST", self._settings.endpoint, content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise _NotTaken(f"answered {response.status_code}")
            read = 0
            for chunk in response.iter_raw():  # to its end, so that the connection can be used again
                read += len(chunk)
                if read > MAX_ANSWER_BYTES or time.monotonic() > give_up:
                    raise _NotTaken("its answer is too long, or too slow")

    def _report(self, fault: str | None) -> None:
        if fault is not None and self._away is None:
            self._log.warning("traces_away", error=fault)
        elif fault is None and self._away is not None:
            self._log.info("traces_back")
        self._away = fault
