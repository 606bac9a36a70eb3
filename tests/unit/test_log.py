import io
import json
import logging
import re
from contextlib import suppress
from typing import Any

import pytest

from issuer.log import PIPE_BUF, LogFormat, StandardLogging, lines_together, open_log, write_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fail_with_a_secret() -> None:
    token = "eyJ.secret.token"
    raise RuntimeError(f"no {len(token)}")


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    open_log("auto", stream).info("rpc", code="OK", scopes=["a"])
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "rpc", "level": "info", "code": "OK", "scopes": ["a"]}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_is_bound_stands_in_every_line(log_format: LogFormat) -> None:
    stream = io.StringIO()
    log = open_log(log_format, stream).bind(worker=7)
    log.info("serving")
    try:
        fail_with_a_secret()
    except RuntimeError:
        log.exception("rpc_fault")
    assert stream.getvalue().count("worker") == 2


def test_a_value_that_json_cannot_hold_is_shown_as_text() -> None:
    stream = io.StringIO()
    open_log("json", stream).info("rpc", peer=object)
    assert "object" in json.loads(stream.getvalue())["peer"]


@pytest.mark.parametrize(("log_format", "stream"), [("auto", Terminal()), ("console", io.StringIO())])
def test_a_person_gets_a_readable_line(log_format: LogFormat, stream: io.StringIO) -> None:
    open_log(log_format, stream).info("serving", grpc="127.0.0.1:8443")
    assert "serving" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_colours_are_for_terminals_only() -> None:
    stream = io.StringIO()
    open_log("console", stream).info("serving")
    assert "\x1b[" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_never_shows_the_values_of_variables(log_format: LogFormat) -> None:
    stream = io.StringIO()
    try:
        fail_with_a_secret()
    except RuntimeError:
        open_log(log_format, stream).exception("rpc_fault")
    assert "fail_with_a_secret" in stream.getvalue()
    assert "eyJ.secret.token" not in stream.getvalue().replace('token = "eyJ.secret.token"', "")


def test_what_a_library_reports_is_a_line_like_the_others() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test.of.a.library")
    handler = StandardLogging(open_log("json", stream))
    logger.addHandler(handler)
    try:
        logger.info("not told")
        logger.warning("the %s is away", "agent")
        logger.error("gone")
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("warning", "test.of.a.library", "the agent is away"),
        ("error", "test.of.a.library", "gone"),
    ]


def test_a_bound_log_has_its_fields_on_every_line() -> None:
    stream = io.StringIO()
    log = open_log("json", stream)
    bound = log.bind(worker=2)
    bound.info("one", a=1)
    bound.critical("two")
    log.info("three")
    one, two, three = map(json.loads, stream.getvalue().splitlines())
    assert (one["worker"], one["a"], one["level"]) == (2, 1, "info")
    assert (two["worker"], two["level"]) == (2, "critical")
    assert "worker" not in three


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_of_fields_that_are_given_away_is_like_any_other(log_format: LogFormat) -> None:
    given, named = io.StringIO(), io.StringIO()
    write_line(open_log(log_format, given), "error", "rpc", {"code": "INTERNAL", "scopes": ["a"]})
    open_log(log_format, named).error("rpc", code="INTERNAL", scopes=["a"])
    assert without_time(given) == without_time(named)


def without_time(stream: io.StringIO) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+", "", stream.getvalue())


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_lines_that_are_written_together_are_the_same_lines(log_format: LogFormat) -> None:
    stream = io.StringIO()
    log = open_log(log_format, stream)
    with lines_together(log):
        for number in range(100):
            log.info("rpc", number=number, text="x" * 100)
    log.info("after")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 101
    assert "after" in lines[-1]


class Pieces(io.BytesIO):
    """Notes what is written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, piece: Any) -> int:
        self.pieces.append(bytes(piece))
        return super().write(piece)


def test_no_write_of_lines_is_one_that_a_pipe_may_split() -> None:
    pieces = Pieces()
    log = open_log("json", io.TextIOWrapper(pieces))
    with lines_together(log):
        for length in (100, 1000, 1500, 1500, 5000, 100, 100):
            log.info("rpc", text="x" * length)
    assert [piece.count(b"\n") for piece in pieces.pieces] == [3, 1, 1, 2]
    assert all(len(piece) <= PIPE_BUF for piece in pieces.pieces if piece.count(b"\n") > 1)
    assert all(piece.endswith(b"\n") for piece in pieces.pieces)


def test_lines_are_written_though_what_is_done_between_them_fails() -> None:
    stream = io.StringIO()
    log = open_log("json", stream)
    with suppress(RuntimeError), lines_together(log):
        log.info("rpc")
        fail_with_a_secret()
    assert stream.getvalue().count("rpc") == 1


def test_an_exception_that_is_not_handled_now_is_told_as_well() -> None:
    stream = io.StringIO()
    try:
        fail_with_a_secret()
    except RuntimeError as error:
        fault = error
    open_log("json", stream).exception("rpc_fault", exc_info=fault)
    line = json.loads(stream.getvalue())
    assert line["exception"][0]["exc_type"] == "RuntimeError"
    assert "eyJ" not in stream.getvalue()
