"""The issuer's side of its public HTTP process: start it, keep it alive, tell it what to show."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from issuer.core.metadata import status_list_uri
from issuer.public_http.list_feed import ListFeed
from issuer.public_http.listener import open_listener
from issuer.public_http.messages import MAX_LINE_BYTES, Report, Setup, State
from issuer.public_http.settings import PublicHttpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger

    from issuer.core.jwk import PublicKeySet
    from issuer.core.metadata import ServerMetadata
    from issuer.public_http.settings import PublicHttpSettings

START_SECONDS = 20.0
STOP_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 60.0
"""A child that lived this long did not die of what it was told: its successor waits only the first pause."""
_COMMAND = (sys.executable, "-P", "-m", "issuer.public_http.child")


class PublicHttpProcess:
    """The public HTTP process, kept alive by a thread that sleeps while nothing happens.

    While the child is away the socket stays open here: who asks meanwhile waits, and probes time out, so readiness is
    lost until the next child serves and was told the latest state. Methods may be called from any thread and, but for
    :meth:`start` and :meth:`stop`, never wait.

    Args:
        settings: Where and how to listen.
        metadata: What to publish about the issuer.
        jwks: The key set to begin with.
        log: Where the process and its supervision report.
    """

    def __init__(
        self, settings: PublicHttpSettings, *, metadata: ServerMetadata, jwks: PublicKeySet, log: FilteringBoundLogger
    ) -> None:
        self._settings = settings
        self._metadata = metadata
        self._state = State(jwks.jwks.decode(), ready=False, reason="the issuer is starting")
        self._lock = Lock()  # over _state and _child: a new child is told the state that the old one was not
        self._lists = ListFeed()
        self._child: _Child | None = None
        self._started: Future[None] = Future()
        self._stopping = Event()
        self._thread = Thread(target=self._supervise, name="public-http", daemon=True)
        self._log = log

    def start(self) -> None:
        """Listen, and wait until the process serves. It says "not ready" until :meth:`set_ready`.

        Raises:
            PublicHttpError: The address or the certificate cannot be used, or the process does not start.
        """
        self._listener = open_listener(self._settings)
        self.port: int = self._listener.getsockname()[1]
        self._thread.start()
        try:
            self._started.result(START_SECONDS)
        except BaseException as error:
            self.stop()
            if isinstance(error, TimeoutError):
                raise PublicHttpError(f"the public HTTP process did not start within {START_SECONDS:.0f} s") from None
            raise

    @property
    def url(self) -> str:
        """Where it listens, with the port that it got."""
        return f"{self._settings.scheme}://{self._settings.listen.rpartition(':')[0]}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process that serves now; ``None`` while there is none."""
        with self._lock:
            return self._child.pid if self._child else None

    def publish(self, jwks: PublicKeySet) -> None:
        """Show another key set from now on."""
        self._post(jwks=jwks.jwks.decode())

    def show_list(self, name: str, text: str, max_age: int) -> None:
        """Serve a signed status list under this name from now on; an empty text takes it away.

        Args:
            name: The last segment of its path.
            text: The signed list, in no other form than this.
            max_age: Seconds that it may be cached.
        """
        self._lists.show(name, text, max_age)

    def set_ready(self, *, ready: bool, reason: str = "") -> None:
        """Answer ``/readyz`` so from now on. ``reason`` is public: no secrets, no names."""
        self._post(ready=ready, reason=reason)

    def stop(self) -> None:
        """Let the process answer what it was asked, and end it. The port is free afterwards."""
        self._stopping.set()
        with self._lock:
            child = self._child
            if child:
                child.leave()
        self._thread.join(STOP_SECONDS)
        if child and self._thread.is_alive():
            child.kill()
            self._thread.join()
        self._lists.close()
        self._listener.close()

    def _post(self, **changes: str | bool) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]
            if self._child:
                self._child.send(self._state)

    def _supervise(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = monotonic()
            fault = self._run_child()
            if self._stopping.is_set():
                return
            if not self._started.done():
                self._started.set_exception(PublicHttpError(fault))
                return
            if monotonic() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._log.error("public_http_ended", fault=fault, next_start_in_seconds=pause)
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _run_child(self) -> str:
        """Run one child to its end; return what it died of."""
        try:
            child = self._new_child()
        except OSError as error:
            return f"the public HTTP process cannot be started: {error}"
        fault = ""
        for report in child.reports():
            fault = self._take(report) or fault
        with self._lock:
            self._child = None
            child.leave()
        code = child.wait()
        return fault or f"the public HTTP process ended with exit code {code}"

    def _new_child(self) -> _Child:
        tls = (self._settings.tls_certificate, self._settings.tls_key)
        certificate, key = (str(path.absolute()) if path else None for path in tls)
        read_lists, write_lists = os.pipe()
        setup = Setup(
            listener=self._listener.fileno(),
            metadata=self._metadata.document.decode(),
            metadata_paths=list(self._metadata.document_paths()),
            jwks_paths=list(self._metadata.jwks_paths()),
            lists=read_lists,
            list_uri=status_list_uri(self._metadata.issuer, ""),
            list_paths=list(self._metadata.status_list_paths()),
            max_age=int(self._settings.key_set_max_age.total_seconds()),
            tls_certificate=certificate,
            tls_key=key,
        )
        self._lists.connect(write_lists)
        with self._lock:
            try:
                self._child = _Child(setup, self._state)
            finally:
                os.close(read_lists)  # the child's is its own: when it dies, writing fails
            if self._stopping.is_set():  # stop() came between and saw no child to end
                self._child.leave()
            return self._child

    def _take(self, report: Report) -> str | None:
        """Act on a report; return the fault that it tells, if it does."""
        match report.kind:
            case "listening":
                if not self._started.done():
                    self._started.set_result(None)
                self._log.info("public_http_listening", url=self.url)
            case "log":
                self._log.error("public_http", message=report.message)
            case "failed":
                return report.message
        return None


class _Child:
    """One run of the process."""

    def __init__(self, setup: Setup, state: State) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=(setup.listener, setup.lists),
        )
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - both are pipes, for the type checker
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        self.send(setup)
        self.send(state)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Setup | State) -> None:
        """Send without waiting. A child that stopped reading is of no use: it is ended, and the next one is told."""
        line = message.to_line()
        try:
            written = self._input.write(line)
        except (BrokenPipeError, ValueError):  # it died, or was told to leave, just now
            return
        if written != len(line):
            self._process.kill()

    def reports(self) -> Iterator[Report]:
        """Yield what the child says, until it is gone."""
        with self._output:
            while line := self._output.readline(MAX_LINE_BYTES):
                yield Report.from_line(line)

    def leave(self) -> None:
        """Tell it to leave, for its input ends. Harmless when it is gone."""
        with suppress(OSError):
            self._input.close()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        """Reap it, and return its exit code. Its output has ended, so it has or is about to."""
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()
