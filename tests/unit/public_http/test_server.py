"""What one peer can hold: uvicorn and its bounds on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from support.https import trusting, write_certificate

from issuer.public_http import server as server_module
from issuer.public_http.documents import Board
from issuer.public_http.messages import Setup, State
from issuer.public_http.routes import HTTPS_HEADERS, SECURITY_HEADERS, public_app
from issuer.public_http.server import MAX_HEADER_BYTES, PublicServer
from issuer.public_http.status_documents import ShownLists
from issuer.public_http.tls import TlsFiles

SETUP = Setup(-1, "{}", ["/metadata"], ["/jwks"], -1, "https://i/lists/", ["/lists"], 300, None, None)
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def application() -> Starlette:
    board = Board(State("{}", ready=True, reason=""), SETUP.max_age)
    return public_app(SETUP, board, ShownLists(SETUP.list_uri, SETUP.max_age))


@asynccontextmanager
async def serving(tls: TlsFiles | None = None) -> AsyncIterator[int]:
    listening = asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    server = PublicServer(
        application(),
        tls=tls.context if tls else None,
        headers=[*SECURITY_HEADERS, *(HTTPS_HEADERS if tls else ())],
        on_listening=listening.set,
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await listening.wait()
    yield listener.getsockname()[1]
    server.should_exit = True
    await task


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every time that a peer has."""
    for limit in ("HANDSHAKE_SECONDS", "REQUEST_SECONDS", "KEEP_ALIVE_SECONDS"):
        monkeypatch.setattr(server_module, limit, 0.3)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as port:
        yield port


@pytest.fixture
async def connect(port: int) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read to the end, which a reset is too."""
    received = b""
    with suppress(ConnectionResetError):
        while data := await asyncio.wait_for(reader.read(65536), 10):
            received += data
    return received


async def test_every_answer_has_the_security_headers_and_none_names_the_server(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in ("/livez", "/jwks", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["referrer-policy"] == "no-referrer"
            assert "strict-transport-security" not in headers
            assert not {"server", "x-powered-by"} & set(headers)


async def test_https_says_so_for_the_future(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    async with (
        serving(TlsFiles(*files)) as port,
        httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting(files[0])) as client,
    ):
        answer = await client.get("/jwks")
    assert answer.text == "{}"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_head_has_no_body(connect: Callable[[], Awaitable[Connection]]) -> None:
    reader, writer = await connect()
    writer.write(b"HEAD /jwks HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await rest(reader)
    assert b"content-length: 2\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_connection_serves_many_requests(connect: Callable[[], Awaitable[Connection]]) -> None:
    reader, writer = await connect()
    writer.write(
        b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n" * 20 + b"GET /jwks HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert (await rest(reader)).count(b"HTTP/1.1 200") == 21


async def test_headers_beyond_the_limit_are_refused(connect: Callable[[], Awaitable[Connection]]) -> None:
    reader, writer = await connect()
    writer.write(b"GET /jwks HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (MAX_HEADER_BYTES * 2))
    assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/x\r\n\r\n",
        b"GET /jwks HTTP/1.1\r\n\r\n",
        b"\r\n\r\nnoise\r\n\r\n",
    ],
    ids=["tls-on-plain", "version", "no-host", "noise"],
)
async def test_what_is_not_http_gets_a_short_answer_and_the_end(
    connect: Callable[[], Awaitable[Connection]], request_bytes: bytes
) -> None:
    reader, writer = await connect()
    writer.write(request_bytes)
    assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /jwks HTTP/1.1\r\nHost: a\r\n",
        b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\nGET /jwks HTTP/1.1\r\n",
    ],
    ids=["nothing", "half-a-request", "no-second-request", "half-a-second-request"],
)
async def test_who_never_finishes_a_request_is_cut_off(
    connect: Callable[[], Awaitable[Connection]], beginning: bytes
) -> None:
    reader, writer = await connect()
    writer.write(beginning)
    received = await rest(reader)
    assert received.count(b"HTTP/1.1 200") == beginning.count(b"\r\n\r\n")


@pytest.mark.usefixtures("impatient")
async def test_dripping_bytes_do_not_extend_the_time(connect: Callable[[], Awaitable[Connection]]) -> None:
    reader, writer = await connect()
    dripped = 0
    with suppress(OSError):
        while not reader.at_eof() and dripped < 500:
            writer.write(b"G")
            await writer.drain()
            dripped += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.02)
    assert dripped < 500


async def test_connections_beyond_the_limit_are_closed_and_the_others_served(
    connect: Callable[[], Awaitable[Connection]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    held = [await connect() for _ in range(3)]
    for _, writer in held:
        writer.write(b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n")
    for reader, _ in held:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    refused, writer = await connect()
    writer.write(b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await rest(refused) == b""
    held[0][1].write(b"GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n")
    await held[0][0].readexactly(2)  # the body of the first answer
    assert (await held[0][0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("impatient")
async def test_who_never_shakes_hands_is_cut_off(tmp_path: Path) -> None:
    async with serving(TlsFiles(*write_certificate(tmp_path))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await rest(reader) == b""
        writer.close()


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_nobody_reads_does_not_hold_the_connection(
    connect: Callable[[], Awaitable[Connection]],
) -> None:
    reader, writer = await connect()
    writer.write(b"GET /jwks HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    with suppress(OSError):
        for _ in range(1000):
            writer.write(b"x" * 65536)
            await writer.drain()
    assert await rest(reader) in (b"", b"{}")
