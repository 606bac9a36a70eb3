"""Channels of grpc and of grpc.aio with tokens, behind one face."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Self

import grpc
import grpc.aio

from agent_client.adapters.grpc import SyncTokenInterceptor, TokenInterceptor, call_credentials
from support.grpc_resource_server import METHOD
from support.numbered_tokens import NumberedTokens, SyncNumberedTokens

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 20.0


class GrpcClient:
    """Use it with ``async with``. Without ``trusted`` the channel is not private."""

    threads: ClassVar[bool]
    source: Any
    interceptor: Any
    credentials: grpc.CallCredentials

    def __init__(self, address: str, trusted: Path | None, *, intercepted: bool = True, source: Any = None) -> None:
        raise NotImplementedError

    def _channel_credentials(self, trusted: Path) -> grpc.ChannelCredentials:
        tls = grpc.ssl_channel_credentials(trusted.read_bytes())
        return grpc.composite_channel_credentials(tls, self.credentials)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        raise NotImplementedError

    async def call(self, **settings: Any) -> bytes:
        raise NotImplementedError


class SyncGrpc(GrpcClient):
    threads = True

    def __init__(self, address: str, trusted: Path | None, *, intercepted: bool = True, source: Any = None) -> None:
        self.source = source or SyncNumberedTokens()
        self.interceptor = SyncTokenInterceptor(self.source)
        self.credentials = call_credentials(self.source)
        if trusted is None:
            self._channel = grpc.insecure_channel(address)
        else:
            self._channel = grpc.secure_channel(address, self._channel_credentials(trusted))
        used = grpc.intercept_channel(self._channel, self.interceptor) if intercepted else self._channel
        self._method = used.unary_unary(METHOD)

    async def __aexit__(self, *_: object) -> None:
        self._channel.close()

    async def call(self, **settings: Any) -> bytes:
        answer: bytes = await asyncio.to_thread(self._method, b"request", **{"timeout": DEADLINE, **settings})
        return answer


class AioGrpc(GrpcClient):
    threads = False

    def __init__(self, address: str, trusted: Path | None, *, intercepted: bool = True, source: Any = None) -> None:
        self.source = source or NumberedTokens()
        self.interceptor = TokenInterceptor(self.source)
        self.credentials = call_credentials(self.source)
        interceptors = [self.interceptor] if intercepted else []
        if trusted is None:
            self._channel = grpc.aio.insecure_channel(address, interceptors=interceptors)
        else:
            credentials = self._channel_credentials(trusted)
            self._channel = grpc.aio.secure_channel(address, credentials, interceptors=interceptors)
        self._method = self._channel.unary_unary(METHOD)

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(self, **settings: Any) -> bytes:
        answer: bytes = await self._method(b"request", **{"timeout": DEADLINE, **settings})
        return answer


GRPC_CLIENTS: tuple[type[GrpcClient], ...] = (SyncGrpc, AioGrpc)
