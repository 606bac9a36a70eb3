"""The HTTP clients that tokens are for, behind one face, so that one test holds them all to the same behaviour."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import aiohttp
import httpx
import requests
import requests.adapters

from agent_client.adapters.aiohttp import TokenMiddleware
from agent_client.adapters.httpx import TokenAuth as HttpxAuth
from agent_client.adapters.requests import TokenAuth as RequestsAuth
from support.numbered_tokens import NumberedTokens, SyncNumberedTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE = 20.0


@dataclass(frozen=True)
class Options:
    """How to make a client.

    Attributes:
        connections: How many it may have.
        proxy: The origin of one for plain HTTP.
        trusted: A certificate.
        source: Where tokens come from; numbered ones without it.
    """

    insecure_http: bool = False
    connections: int = 1
    proxy: str | None = None
    trusted: Path | None = None
    source: Any = None

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.trusted)


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    text: str


class Client:
    """Use it with ``async with``. ``auth`` is the adapter."""

    failure: ClassVar[type[Exception]]
    """What the library raises when a connection fails."""

    threads: ClassVar[bool]
    """Whether its source is one for threads."""

    source: Any
    auth: object

    def __init__(self, options: Options) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        raise NotImplementedError

    async def send(self, method: str, url: str, body: Any = None) -> Reply:
        raise NotImplementedError

    def once(self, *chunks: bytes) -> Iterator[bytes] | AsyncIterator[bytes]:
        """Return a body that can be read only once."""
        return (chunk for chunk in chunks)


async def _chunks(chunks: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Httpx(Client):
    threads = True
    failure = httpx.TransportError

    def __init__(self, options: Options) -> None:
        self.source = options.source or SyncNumberedTokens()
        self.auth = HttpxAuth(self.source, insecure_http=options.insecure_http)
        self._client = httpx.Client(
            auth=self.auth,
            limits=httpx.Limits(max_connections=options.connections),
            proxy=options.proxy,
            verify=options.context(),
            timeout=PATIENCE,
            follow_redirects=True,
            trust_env=False,
        )

    async def close(self) -> None:
        self._client.close()

    async def send(self, method: str, url: str, body: Any = None) -> Reply:
        response = await asyncio.to_thread(self._client.request, method, url, content=body)
        return Reply(response.status_code, response.text)


class AsyncHttpx(Client):
    threads = False
    failure = httpx.TransportError

    def __init__(self, options: Options) -> None:
        self.source = options.source or NumberedTokens()
        self.auth = HttpxAuth(self.source, insecure_http=options.insecure_http)
        self._client = httpx.AsyncClient(
            auth=self.auth,
            limits=httpx.Limits(max_connections=options.connections),
            proxy=options.proxy,
            verify=options.context(),
            timeout=PATIENCE,
            follow_redirects=True,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, method: str, url: str, body: Any = None) -> Reply:
        response = await self._client.request(method, url, content=body)
        return Reply(response.status_code, response.text)

    def once(self, *chunks: bytes) -> Iterator[bytes] | AsyncIterator[bytes]:
        return _chunks(chunks)


class Requests(Client):
    threads = True
    failure = requests.RequestException

    def __init__(self, options: Options) -> None:
        self.source = options.source or SyncNumberedTokens()
        self.auth = RequestsAuth(self.source, insecure_http=options.insecure_http)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = self.auth
        self._session.proxies = {"http": options.proxy} if options.proxy else {}
        self._session.verify = str(options.trusted) if options.trusted else True
        for scheme in ("http://", "https://"):
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=options.connections, pool_block=True)
            self._session.mount(scheme, adapter)

    async def close(self) -> None:
        self._session.close()

    async def send(self, method: str, url: str, body: Any = None) -> Reply:
        response = await asyncio.to_thread(self._session.request, method, url, data=body, timeout=PATIENCE)
        return Reply(response.status_code, response.text)


class Aiohttp(Client):
    threads = False
    failure = aiohttp.ClientError

    def __init__(self, options: Options) -> None:
        self.source = options.source or NumberedTokens()
        self.auth = TokenMiddleware(self.source, insecure_http=options.insecure_http)
        self._session = aiohttp.ClientSession(
            middlewares=[self.auth],
            connector=aiohttp.TCPConnector(limit=options.connections, ssl=options.context()),
            proxy=options.proxy,
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, method: str, url: str, body: Any = None) -> Reply:
        async with self._session.request(method, url, data=body) as response:
            return Reply(response.status, await response.text())

    def once(self, *chunks: bytes) -> Iterator[bytes] | AsyncIterator[bytes]:
        return _chunks(chunks)


CLIENTS: tuple[type[Client], ...] = (Httpx, AsyncHttpx, Requests, Aiohttp)
