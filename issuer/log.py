"""Structured logging: JSON lines, or a readable form on a terminal."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TextIO, cast

import orjson
import structlog

from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping
    from contextlib import AbstractContextManager

    from structlog.typing import FilteringBoundLogger, Processor

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["info", "error"]
PIPE_BUF: Final = 4096
"""Bytes that a pipe takes whole (POSIX; that of Linux): workers share the standard error of their issuer."""


def open_log(log_format: LogFormat, stream: TextIO = sys.stderr) -> FilteringBoundLogger:
    """Return the logger of the process, writing to ``stream``.

    Args:
        log_format: ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
        stream: Where lines go; each is written whole and flushed.
    """
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    if not console:
        return cast("FilteringBoundLogger", JsonLog(stream))
    return cast(
        "FilteringBoundLogger",
        structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=_processors(colors=stream.isatty()),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        ).bind(),
    )


class JsonLog:
    """That part of structlog's logger that this program uses, as JSON lines at a third of its cost.

    A line is written for every token: through structlog's chain of processors it took 8 us, this way 3.

    Args:
        stream: Where lines go.
        always: Fields of every line.
    """

    def __init__(self, stream: TextIO, **always: object) -> None:
        self._stream = stream
        self._always = always
        self._bytes: BinaryIO | None = getattr(stream, "buffer", None)
        self._lines: list[bytes] | None = None
        self._now = SystemClock().now

    def bind(self, **fields: object) -> JsonLog:
        """Return a log with these fields on every line."""
        return JsonLog(self._stream, **self._always, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Tell what happened."""
        self.line("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Tell what somebody should look at."""
        self.line("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Tell what went wrong."""
        self.line("error", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """Tell what somebody must look at now."""
        self.line("critical", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Tell what went wrong, with the traceback of the exception that is handled, or of ``exc_info``."""
        self.line("error", event, _FRAMES(None, "error", {"exc_info": True, **fields}))

    def line(self, level: str, event: str, fields: MutableMapping[str, object]) -> None:
        """Tell something in a line of these fields, which are the log's from now on."""
        fields.update(self._always)
        fields["event"] = event
        fields["level"] = level
        fields["timestamp"] = self._now()
        line = orjson.dumps(fields, default=repr, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        if self._lines is None:
            self._put(line)
        else:
            self._lines.append(line)

    def _put(self, lines: bytes) -> None:
        if self._bytes is None:
            self._stream.write(lines.decode())
            self._stream.flush()
        else:
            self._bytes.write(lines)
            self._bytes.flush()

    @contextmanager
    def lines_together(self) -> Iterator[None]:
        """Write what is told in this context when it ends, many lines at once; nothing may wait in it."""
        kept = self._lines = []
        try:
            yield
        finally:
            self._lines = None
            for lines in _joined(kept):
                self._put(lines)


def write_line(log: FilteringBoundLogger, level: LogLevel, event: str, fields: dict[str, object]) -> None:
    """Tell something in a line of these fields, which are the log's from now on: a call has twenty."""
    unknown: object = log
    if isinstance(unknown, JsonLog):
        unknown.line(level, event, fields)
    else:
        getattr(log, level)(event, **fields)


def lines_together(log: object) -> AbstractContextManager[None]:
    """Let a log write the lines of this context together, if it can."""
    return log.lines_together() if isinstance(log, JsonLog) else nullcontext()


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines as far as they are written whole where other processes write as well."""
    joined = b""
    for line in lines:
        if joined and len(joined) + len(line) > PIPE_BUF:
            yield joined
            joined = b""
        joined += line
    if joined:
        yield joined


class StandardLogging(logging.Handler):
    """Brings what libraries write through :mod:`logging` into our log, from warnings up."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Tracebacks stay out: they are not known to be free of values."""
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        write("library", logger=record.name, message=record.getMessage())


def _processors(*, colors: bool) -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
    ]


# Tracebacks never carry the values of local variables: a token or a key may be among them.
_FRAMES = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
