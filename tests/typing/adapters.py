"""The adapters as their users' type checkers see them. Never run: mypy reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import assert_type

import aiohttp
import grpc
import grpc.aio
import httpx
import requests

from agent_client import SyncTokenSource, TokenSource  # noqa: TC001 - as a user would
from agent_client.adapters import aiohttp as aiohttp_adapter
from agent_client.adapters import grpc as grpc_adapter
from agent_client.adapters import httpx as httpx_adapter
from agent_client.adapters import requests as requests_adapter
from agent_client.adapters.provider import async_token_provider, token_provider
from agent_client.resource_errors import ResourceRefused, ScopeInsufficient, StepUpRequired, TokenRefused


def by_thread(tokens: SyncTokenSource) -> None:
    with httpx.Client(auth=httpx_adapter.TokenAuth(tokens)) as client:
        client.get("https://api.test")
    requests.get("https://api.test", auth=requests_adapter.TokenAuth(tokens), timeout=1)
    grpc.intercept_channel(grpc.insecure_channel(""), grpc_adapter.SyncTokenInterceptor(tokens))
    assert_type(token_provider(tokens), Callable[[], str])


async def by_task(tokens: TokenSource) -> None:
    async with httpx.AsyncClient(auth=httpx_adapter.TokenAuth(tokens)) as client:
        await client.get("https://api.test")
    async with aiohttp.ClientSession(middlewares=[aiohttp_adapter.TokenMiddleware(tokens)]) as session:
        await session.get("https://api.test")
    grpc.aio.insecure_channel("", interceptors=[grpc_adapter.TokenInterceptor(tokens)])
    assert_type(async_token_provider(tokens), Callable[[], Awaitable[str]])


def both_make_call_credentials(one: SyncTokenSource, other: TokenSource) -> None:
    grpc_adapter.call_credentials(one)
    grpc_adapter.call_credentials(other)


def errors_are_typed(client: httpx.Client) -> None:
    try:
        client.get("https://api.test")
    except TokenRefused as error:
        assert_type(error.retried, bool)
    except ScopeInsufficient as error:
        assert_type(error.scopes, tuple[str, ...])
    except StepUpRequired as error:
        assert_type(error.acr_values, tuple[str, ...])
        assert_type(error.max_age, timedelta | None)
    except ResourceRefused:
        pass


def mistakes_are_found(one: SyncTokenSource, other: TokenSource) -> None:
    httpx_adapter.TokenAuth("token")  # type: ignore[arg-type]
    requests_adapter.TokenAuth(other)  # type: ignore[arg-type]
    aiohttp_adapter.TokenMiddleware(one)  # type: ignore[arg-type]
    grpc_adapter.TokenInterceptor(one)  # type: ignore[arg-type]
    grpc_adapter.SyncTokenInterceptor(other)  # type: ignore[arg-type]
    token_provider(other)  # type: ignore[arg-type]
