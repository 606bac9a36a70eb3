"""The public HTTP process: ``python -m issuer.public_http.child``, started by :mod:`issuer.public_http.process`.

It is told everything by its standard input, holds no secret but the key of its HTTPS certificate, and ends when that
input does. It ignores SIGINT and SIGTERM, which a terminal or a service manager sends to parent and child alike: while
the parent lets its calls end, verifiers still get the key set and probes hear "not ready".
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from issuer.public_http.documents import Board
from issuer.public_http.messages import MAX_LINE_BYTES, ListShown, Report, Setup, State
from issuer.public_http.routes import HTTPS_HEADERS, SECURITY_HEADERS, public_app
from issuer.public_http.server import PublicServer
from issuer.public_http.status_documents import ShownLists
from issuer.public_http.tls import POLL_SECONDS, TlsFiles, TlsFilesError

if TYPE_CHECKING:
    from io import FileIO

_MAX_REPORTED_CHARACTERS = 4000


class Reporter(logging.Handler):
    """Sends reports, and the log, to the parent, which has the one configured log. Never waits for it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(logging.ERROR)
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def send(self, report: Report) -> None:
        """Send a report; drop it when the parent does not read, or is gone."""
        with suppress(OSError):
            os.write(self._descriptor, report.to_line())

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log record. Tracebacks have no locals, by the standard library's formatter."""
        self.send(Report("log", self.format(record)[:_MAX_REPORTED_CHARACTERS]))


def main() -> None:
    """Serve until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    reporter = Reporter(_take_over_stdout())
    logging.basicConfig(handlers=[reporter], level=logging.ERROR)
    # Unbuffered: what follows the first two lines is read by the event loop.
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    setup, state = source.readline(), source.readline()
    if not state:  # the parent is gone already
        return
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(Setup.from_line(setup), State.from_line(state), source, reporter))
    except TlsFilesError as error:
        reporter.send(Report("failed", str(error)))
        sys.exit(1)
    except Exception:
        logging.getLogger(__name__).exception("a defect of the public HTTP process")
        sys.exit(1)


def _take_over_stdout() -> int:
    """Return a descriptor for reports, and let whatever else prints go to standard error."""
    reports = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return reports


async def _serve(setup: Setup, state: State, source: FileIO, reporter: Reporter) -> None:
    board, lists = Board(state, setup.max_age), ShownLists(setup.list_uri, setup.max_age)
    tls = (
        TlsFiles(Path(setup.tls_certificate), Path(setup.tls_key)) if setup.tls_certificate and setup.tls_key else None
    )
    server = PublicServer(
        public_app(setup, board, lists),
        tls=tls.context if tls else None,
        headers=[*SECURITY_HEADERS, *(HTTPS_HEADERS if tls else ())],
        on_listening=lambda: reporter.send(Report("listening", "")),
    )
    following = [
        asyncio.create_task(_follow_parent(source, board, server)),
        asyncio.create_task(_follow_lists(os.fdopen(setup.lists, "rb", buffering=0), lists)),
    ]
    if tls is not None:
        following.append(asyncio.create_task(_follow_files(tls)))
    await server.serve(sockets=[socket.socket(fileno=setup.listener)])
    for task in following:
        task.cancel()
    for outcome in await asyncio.gather(*following, return_exceptions=True):
        if isinstance(outcome, Exception):  # which a cancellation is not
            raise outcome


async def _follow_parent(source: FileIO, board: Board, server: PublicServer) -> None:
    lines = await _lines_of(source)
    try:
        while line := await lines.readline():
            board.post(State.from_line(line))
    finally:
        server.should_exit = True


async def _follow_lists(source: FileIO, lists: ShownLists) -> None:
    """Show what comes. The parent ends this pipe no sooner than the other, whose end is the order to leave."""
    shown = await _lines_of(source)
    while line := await shown.readline():
        lists.post(ListShown.from_line(line))


async def _lines_of(source: FileIO) -> asyncio.StreamReader:
    lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), source)
    return lines


async def _follow_files(tls: TlsFiles) -> None:
    while True:
        await asyncio.sleep(POLL_SECONDS)
        try:
            tls.reload_if_changed()
        except TlsFilesError as error:
            logging.getLogger(__name__).error("%s; the certificate in use stays", error)


if __name__ == "__main__":
    main()
