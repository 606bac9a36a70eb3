"""How the adapters are used, checked by mypy and never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import grpc
import grpc.aio
import httpx
import requests

from agent_client.adapters.aiohttp import TokenMiddleware
from agent_client.adapters.grpc import SyncTokenInterceptor, TokenInterceptor, call_credentials
from agent_client.adapters.httpx import TokenAuth as HttpxAuth
from agent_client.adapters.provider import async_token_provider, token_provider
from agent_client.adapters.requests import TokenAuth as RequestsAuth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_client import IssuerClient, SyncIssuerClient


def threads(issuer: SyncIssuerClient) -> Callable[[], str]:
    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    httpx.Client(auth=HttpxAuth(source))
    requests.Session().auth = RequestsAuth(source)
    requests.get("https://ledger.prod.example", auth=RequestsAuth(source), timeout=1)
    grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), call_credentials(source))
    SyncTokenInterceptor(source)
    RequestsAuth(issuer)  # type: ignore[arg-type]
    TokenMiddleware(source)  # type: ignore[arg-type]
    return token_provider(source)


async def event_loop(issuer: IssuerClient) -> Callable[[], Awaitable[str]]:
    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    httpx.AsyncClient(auth=HttpxAuth(source))
    aiohttp.ClientSession(middlewares=[TokenMiddleware(source, origins=["https://ledger.prod.example"])])
    grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), call_credentials(source))
    TokenInterceptor(source)
    RequestsAuth(source)  # type: ignore[arg-type]
    token_provider(source)  # type: ignore[arg-type]
    return async_token_provider(source)
