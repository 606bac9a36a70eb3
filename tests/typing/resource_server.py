"""Verification as its users' type checkers see it. Never run: mypy reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated, Any, assert_type

import grpc
import grpc.aio
from fastapi import Depends, FastAPI
from starlette.applications import Starlette

from agent_client import SyncIssuerClient  # noqa: TC001 - as a user would
from agent_client.verification import (
    ApplicationRejected,
    FetchedKeys,
    InsufficientScope,
    IssuerKeys,
    KeysUnavailable,
    MetadataKeys,
    RejectionReason,
    TokenRejected,
    TokenVerifier,
    VerificationError,
    VerifiedToken,
)
from agent_client.verification.asgi import TokenMiddleware
from agent_client.verification.current import current_token, requires
from agent_client.verification.grpc import SyncTokenInterceptor, TokenInterceptor
from agent_client.verification.resource_metadata import ResourceMetadata

ISSUER = "https://issuer.test"
API = "https://api.test"


class KeysOfATest:
    def fetch(self) -> FetchedKeys:
        return FetchedKeys({"keys": []}, None)


def verifiers(client: SyncIssuerClient) -> list[TokenVerifier]:
    return [
        TokenVerifier(ISSUER, API),
        TokenVerifier(ISSUER, API, keys=IssuerKeys(client), scopes=["read"], require_binding=True),
        TokenVerifier(ISSUER, API, keys=MetadataKeys(ISSUER, ca_file="ca.pem"), leeway=timedelta(seconds=1)),
        TokenVerifier(ISSUER, API, keys=KeysOfATest(), algorithms={"ES256"}, insecure_dev=True),
    ]


def everything_by_thread(text: str, certificate: bytes) -> str:
    with TokenVerifier(ISSUER, API) as verifier:
        verifier.warm_up()
        token = verifier.verify(text, certificate=certificate, scopes=["read"], applications={"payments"})
        assert_type(token, VerifiedToken)
        assert_type(token.scopes, tuple[str, ...])
        assert_type(token.expires_at, datetime)
        assert_type(token.application, str | None)
        assert_type(token.claims, Mapping[str, Any])
        token.require("read", "write")
        return token.subject


async def everything_by_task(text: str) -> str:
    async with TokenVerifier(ISSUER, API) as verifier:
        token = await verifier.verify_async(text)
        assert_type(token, VerifiedToken)
        return token.subject


def errors_are_typed(verifier: TokenVerifier) -> None:
    try:
        verifier.verify("")
    except TokenRejected as error:
        assert_type(error.reason, RejectionReason)
    except InsufficientScope as error:
        assert_type(error.required, tuple[str, ...])
    except ApplicationRejected as error:
        assert_type(error.remedy, str)
    except KeysUnavailable as error:
        assert_type(error.retry_after, timedelta | None)
    except VerificationError as error:
        assert_type(error.http_status, int)
        assert_type(error.oauth_error, str | None)


def with_starlette(verifier: TokenVerifier) -> TokenMiddleware:
    app = Starlette()
    app.add_middleware(TokenMiddleware, verifier=verifier, public_paths=["/healthz"])
    return TokenMiddleware(app, verifier, scopes=["read"], resource_metadata=ResourceMetadata.of(verifier))


def with_fastapi(verifier: TokenVerifier, app: FastAPI) -> None:
    app.add_middleware(TokenMiddleware, verifier=verifier)
    assert_type(requires("read"), Callable[[], Awaitable[VerifiedToken]])

    @app.get("/")
    async def read(token: Annotated[VerifiedToken, Depends(requires("read"))]) -> str:
        assert_type(current_token(), VerifiedToken)
        return token.subject


def with_grpc(verifier: TokenVerifier) -> None:
    scopes = {"/ledger.v1.LedgerService/*": ["read"]}
    grpc.aio.server(interceptors=[TokenInterceptor(verifier, scopes=scopes, public=["/grpc.health.v1.Health/*"])])
    grpc.server(ThreadPoolExecutor(), interceptors=[SyncTokenInterceptor(verifier, scopes=scopes)])
    TokenInterceptor(verifier)  # type: ignore[call-arg]
    TokenInterceptor(verifier, scopes=["read"])  # type: ignore[arg-type]


def mistakes_are_found(verifier: TokenVerifier, token: VerifiedToken) -> None:
    TokenVerifier(ISSUER)  # type: ignore[call-arg]
    TokenVerifier(ISSUER, API, leeway=5)  # type: ignore[arg-type]
    TokenVerifier(ISSUER, [API])  # type: ignore[arg-type]
    verifier.verify(b"token")  # type: ignore[arg-type]
    verifier.verify("token", b"certificate")  # type: ignore[call-arg]
    token.subject = "spiffe://a/b"  # type: ignore[misc]
    requires(["read"])  # type: ignore[arg-type]
