"""The clock of the issuer's HTTP listener, as doctor reads it from whoever answers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.key_server import METADATA_PATH, KeyServer, key_server

from agent_client.cli.diagnosis import publishing
from agent_client.cli.diagnosis.publishing import date_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as running:
        yield running


def telling(*dates: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response_only(200)
        for date in dates:
            handler.send_header("Date", date)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    return answer


def test_the_time_comes_with_the_metadata(server: KeyServer) -> None:
    server.serve({"keys": []})
    told = date_of(server.issuer)
    assert told is not None
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
    server.answers[METADATA_PATH] = telling("Tue, 24 Nov 2026 12:00:00 GMT")
    assert date_of(server.issuer) == datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("date", ["", "soon", "Tue, 99 Nov 2026 12:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"])
def test_what_is_no_time_is_none(server: KeyServer, date: str) -> None:
    server.answers[METADATA_PATH] = telling(date)
    assert date_of(server.issuer) is None
    server.answers[METADATA_PATH] = telling()
    assert date_of(server.issuer) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:nope", "https://[::1", "no url", "http://", "https://a:99999"])
def test_what_is_no_url_has_no_time(url: str) -> None:
    assert date_of(url) is None


def test_a_server_that_drips_its_answer_is_given_up(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FETCH_SECONDS", 0.5)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not server.released.wait(0.1):
            handler.wfile.write(b"a")

    server.answers[METADATA_PATH] = drip
    server.answers["/livez"] = drip
    began = time.monotonic()
    assert date_of(server.issuer) is None
    assert time.monotonic() - began < 5
