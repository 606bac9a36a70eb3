"""The keys from the issuer's URL, over real HTTP: from a good issuer, from a broken one, and from an attacker."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.forging import fixed_forge
from support.https import trusting, write_certificate
from support.key_server import (
    JWKS_PATH,
    METADATA_PATH,
    OPENID_PATH,
    KeyServer,
    answer_json,
    answer_status,
    key_server,
)

from agent_client.verification.bounded_http import (
    MAX_DOCUMENT_BYTES,
    FetchFault,
    checked_url,
    fetch_object,
    max_age_of,
)
from agent_client.verification.metadata_keys import MetadataKeys, metadata_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

JWKS = fixed_forge().jwks


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as server:
        server.serve(JWKS)
        yield server


def fault_of(server: KeyServer, timeout: float = 5.0) -> str:
    with pytest.raises(FetchFault) as failed:
        MetadataKeys(server.issuer, timeout=timeout).fetch()
    return str(failed.value)


def test_discovers_and_fetches(server: KeyServer) -> None:
    fetched = MetadataKeys(server.issuer).fetch()
    assert fetched.jwks == JWKS
    assert fetched.max_age == timedelta(minutes=5)
    assert server.requests == [METADATA_PATH, JWKS_PATH]


def test_falls_back_to_openid_discovery(server: KeyServer) -> None:
    server.answers[OPENID_PATH] = server.answers.pop(METADATA_PATH)
    assert MetadataKeys(server.issuer).fetch().jwks == JWKS
    assert server.requests == [METADATA_PATH, OPENID_PATH, JWKS_PATH]


@pytest.mark.parametrize(
    ("issuer", "oauth", "openid"),
    [
        (
            "https://h.example",
            "https://h.example/.well-known/oauth-authorization-server",
            "https://h.example/.well-known/openid-configuration",
        ),
        (
            "https://h.example:8443/sts/eu",
            "https://h.example:8443/.well-known/oauth-authorization-server/sts/eu",
            "https://h.example:8443/sts/eu/.well-known/openid-configuration",
        ),
        (
            "https://h.example/sts/",
            "https://h.example/.well-known/oauth-authorization-server/sts",
            "https://h.example/sts/.well-known/openid-configuration",
        ),
    ],
)
def test_metadata_is_where_the_standards_put_it(issuer: str, oauth: str, openid: str) -> None:
    assert metadata_urls(checked_url(issuer)) == (oauth, openid)


@pytest.mark.parametrize("ending", ["/", ".evil.example", "/x", ":1"])
def test_refuses_the_metadata_of_another_issuer(server: KeyServer, ending: str) -> None:
    """Else an issuer on the same host, or one that copies a document, could bring its own keys."""
    named = {"issuer": server.issuer + ending, "jwks_uri": server.issuer + JWKS_PATH}
    server.answers[METADATA_PATH] = answer_json(named)
    server.answers[OPENID_PATH] = answer_json({**named, "issuer": server.issuer})
    assert "names another issuer" in fault_of(server)
    assert server.requests == [METADATA_PATH], "it is not asked elsewhere"


@pytest.mark.parametrize("issuer", [None, 1, [], {}])
def test_refuses_metadata_without_an_issuer(server: KeyServer, issuer: object) -> None:
    server.answers[METADATA_PATH] = answer_json({"issuer": issuer, "jwks_uri": server.issuer + JWKS_PATH})
    assert "names another issuer" in fault_of(server)


@pytest.mark.parametrize("location", [None, 1, ["https://h.example/keys"]])
def test_refuses_metadata_without_a_key_set(server: KeyServer, location: object) -> None:
    server.answers[METADATA_PATH] = answer_json({"issuer": server.issuer, "jwks_uri": location})
    assert "has no jwks_uri" in fault_of(server)


@pytest.mark.parametrize(
    "location",
    [
        *("http://h.example/keys", "file:///etc/passwd", "/keys", "", "ftp://127.0.0.1/keys", "https://u:p@h.example/"),
        *("http://127.0.0.1\r\nX: y/keys", "http://127.0.0.1/a b", "https://", "https://h.example/#f", "https://[::1/"),
        *("http://127.0.0.1.evil.example/keys", "https://h.example:0/", "https://h.example:99999/", "data:,{}"),
        "https://h.example/" + "a" * 3000,
    ],
)
def test_refuses_a_key_set_where_nobody_should_fetch(server: KeyServer, location: str) -> None:
    server.answers[METADATA_PATH] = answer_json({"issuer": server.issuer, "jwks_uri": location})
    assert server.requests.count(JWKS_PATH) == 0
    assert " is no" in fault_of(server)


@pytest.mark.parametrize("path", [METADATA_PATH, JWKS_PATH])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_no_redirect(server: KeyServer, path: str, status: int) -> None:
    good = server.answers[path]
    server.answers["/elsewhere"] = good
    server.answers[path] = answer_status(status, Location=f"{server.issuer}/elsewhere")
    assert f"answered {status}, not 200" in fault_of(server)
    assert "/elsewhere" not in server.requests


@pytest.mark.parametrize("status", [204, 500, 503])
def test_a_failing_server_is_a_fault_and_not_asked_elsewhere(server: KeyServer, status: int) -> None:
    server.answers[METADATA_PATH] = answer_status(status)
    assert f"answered {status}" in fault_of(server)
    assert server.requests == [METADATA_PATH]


def test_both_documents_missing_is_a_fault(server: KeyServer) -> None:
    del server.answers[METADATA_PATH]
    assert "answered 404" in fault_of(server)


def test_refuses_a_body_larger_than_the_bound(server: KeyServer) -> None:
    padding = b" " * (MAX_DOCUMENT_BYTES - 2)
    server.answers[JWKS_PATH] = answer_json(b"{}" + padding)
    assert MetadataKeys(server.issuer).fetch().jwks == {}
    server.answers[JWKS_PATH] = answer_json(b"{}" + padding + b" ")
    assert "more than 262144 bytes" in fault_of(server)


def test_reads_no_more_than_the_bound_of_a_body_without_end(server: KeyServer) -> None:
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.is_set():
            handler.wfile.write(b" " * 65536)
            sent.append(65536)

    server.answers[JWKS_PATH] = endless
    assert "more than 262144 bytes" in fault_of(server)
    assert sum(sent) < 64 * 1024 * 1024  # what the kernel's buffers hold, too


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"<html>", b'{"issuer":1,"issuer":2}', b'{"a":NaN}', b"{}{}", b'{"a":' + b"[" * 50_000, b"\xff"],
)
def test_refuses_what_is_no_strict_object(server: KeyServer, body: bytes) -> None:
    server.answers[METADATA_PATH] = answer_json(body)
    assert "no strict JSON object" in fault_of(server)


@pytest.mark.parametrize("path", [METADATA_PATH, JWKS_PATH])
@pytest.mark.parametrize("misdeed", ["hang", "drip", "drip in the headers", "continue for ever"])
def test_gives_up_at_its_deadline_whatever_the_server_does(server: KeyServer, path: str, misdeed: str) -> None:
    misdeeds: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
        "hang": server.hang,
        "drip": server.drip,
        "drip in the headers": _writing(server, b"HTTP/1.1 200 OK\r\n", b"X"),
        "continue for ever": _writing(server, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    }
    server.answers[path] = misdeeds[misdeed]
    began = time.monotonic()
    assert "time" in fault_of(server, timeout=0.3)
    assert time.monotonic() - began < 3


def _writing(server: KeyServer, first: bytes, then: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        while not server.released.wait(0.01):
            handler.wfile.write(then)

    return answer


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 xyz\r\n\r\n", b"\0" * 70_000])
def test_a_server_that_speaks_no_http_is_a_fault(server: KeyServer, answer: bytes) -> None:
    def speak(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)

    server.answers[METADATA_PATH] = speak
    assert server.issuer in fault_of(server)


def test_a_port_where_nobody_listens_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchFault, match="refused"):
        MetadataKeys(f"http://127.0.0.1:{port}").fetch()


def test_a_name_that_is_none_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchFault, match=r"issuer\.invalid"):
        MetadataKeys("https://issuer.invalid").fetch()


def test_a_host_without_an_address_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(FetchFault, match="no address"):
        MetadataKeys("https://issuer.example").fetch()


def test_tries_the_next_address_of_a_host(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = checked_url(server.issuer).port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    kind: tuple[Any, ...] = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(*kind, ("127.0.0.1", dead)), (*kind, ("127.0.0.1", port))]
    )
    assert MetadataKeys(server.issuer).fetch().jwks == JWKS


def test_a_deadline_that_has_passed_is_a_fault(server: KeyServer) -> None:
    with pytest.raises(FetchFault, match="time"):
        fetch_object(server.issuer, ssl.create_default_context(), time.monotonic() - 1)
    assert server.requests == []


def test_sends_the_query_and_a_path(server: KeyServer) -> None:
    server.answers["/keys?v=1"] = server.answers[JWKS_PATH]
    server.answers["/"] = answer_json({"here": True})
    end = time.monotonic() + 5
    assert fetch_object(f"{server.issuer}/keys?v=1", ssl.create_default_context(), end).members == JWKS
    assert fetch_object(server.issuer, ssl.create_default_context(), end).members == {"here": True}


# --- TLS


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[KeyServer, Path]]:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with key_server(context) as server:
        server.serve(JWKS)
        yield server, certificate


def test_fetches_over_tls_from_who_is_trusted(secure: tuple[KeyServer, Path]) -> None:
    server, certificate = secure
    assert MetadataKeys(server.issuer, ca_file=certificate).fetch().jwks == JWKS
    assert MetadataKeys(server.issuer, ssl_context=trusting(certificate)).fetch().jwks == JWKS


def test_refuses_who_is_not_trusted(secure: tuple[KeyServer, Path]) -> None:
    server, _ = secure
    assert "certificate verify failed" in fault_of(server)
    assert server.requests == []


def test_refuses_a_certificate_of_another_name(secure: tuple[KeyServer, Path]) -> None:
    server, certificate = secure
    with pytest.raises(FetchFault, match="certificate"):
        MetadataKeys(server.issuer.replace("127.0.0.1", "127.1"), ca_file=certificate).fetch()
    assert server.requests == []


def test_an_https_issuer_cannot_send_us_to_plain_http(secure: tuple[KeyServer, Path]) -> None:
    server, certificate = secure
    plain = server.issuer.replace("https", "http") + JWKS_PATH
    server.answers[METADATA_PATH] = answer_json({"issuer": server.issuer, "jwks_uri": plain})
    with pytest.raises(FetchFault, match="not https"):
        MetadataKeys(server.issuer, ca_file=certificate).fetch()


# --- configuration


@pytest.mark.parametrize(
    "issuer",
    [
        *(
            "",
            "issuer.example",
            "http://issuer.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://",
            "https:///a",
        ),
        *(
            "https://u@h.example",
            "https://:p@h.example",
            "https://h.example?x=1",
            "https://h.example/?",
            "HTTP://h.example",
        ),
        *("https://h.example#f", "https://h.example/#", "https://h.example/ a", "https://hé.example", "https://h:x"),
        *("http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://2130706433", "http://0.0.0.0"),
    ],
)
def test_refuses_an_issuer_that_is_no_url_of_one(issuer: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        MetadataKeys(issuer)


@pytest.mark.parametrize("issuer", ["https://h.example", "http://127.0.0.1:1", "http://[::1]:80/x", "http://localhost"])
def test_takes_https_and_http_on_loopback(issuer: str) -> None:
    MetadataKeys(issuer)


@pytest.mark.parametrize("timeout", [0, -1, 5.1, float("inf"), float("nan")])
def test_refuses_a_timeout_out_of_bounds(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        MetadataKeys("https://h.example", timeout=timeout)


def test_refuses_two_ways_to_say_whom_to_trust(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        MetadataKeys("https://h.example", ca_file=tmp_path, ssl_context=ssl.create_default_context())
    with pytest.raises(OSError, match="No such file"):
        MetadataKeys("https://h.example", ca_file=tmp_path / "missing.pem")


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", None),
        ("public", None),
        ("public, max-age=300", 300),
        ("MAX-AGE=5", 5),
        ('max-age="60"', 60),
        ("s-maxage=60", None),
        ("x-max-age=60", None),
        ("no-store", 0),
        ("max-age=300, no-cache", 0),
        ("private,no-store", 0),
        ("max-age=99999999999999", 9999999999),
        ("max-age=", None),
        ("max-age=-1", None),
        ("max-age=x", None),
    ],
)
def test_reads_how_long_an_answer_may_be_kept(cache_control: str, seconds: float | None) -> None:
    assert max_age_of(cache_control) == seconds


def test_an_answer_that_does_not_say_has_no_age(server: KeyServer) -> None:
    server.answers[JWKS_PATH] = answer_json(JWKS)
    assert MetadataKeys(server.issuer).fetch().max_age is None
