"""Token sources as their users' type checkers see them. Never run: mypy reads it."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from agent_client import IssuedToken, IssuerClient, SyncIssuerClient, SyncTokenSource, TokenRequest, TokenSource


def by_thread(client: SyncIssuerClient) -> str:
    tokens = client.tokens_for("https://api.test", ["read"], ttl=timedelta(minutes=5), keep_fresh=True)
    assert_type(tokens, SyncTokenSource)
    assert_type(tokens.request, TokenRequest)
    issued = tokens.get(timeout=2)
    assert_type(issued, IssuedToken)
    tokens.invalidate(issued)
    assert_type(tokens.wait_for_next(issued, 60), IssuedToken | None)
    return issued.token.reveal()


async def by_task(client: IssuerClient) -> str:
    tokens = client.tokens_for("https://api.test", ("read",), application="payments", bind_certificate=True)
    assert_type(tokens, TokenSource)
    issued = await tokens.get()
    assert_type(issued, IssuedToken)
    tokens.invalidate(issued)
    assert_type(await tokens.wait_for_next(issued, 60), IssuedToken | None)
    return issued.token.reveal()


def mistakes_are_found(client: SyncIssuerClient, tokens: SyncTokenSource, other: TokenSource) -> None:
    client.tokens_for("https://api.test")  # type: ignore[call-arg]
    client.tokens_for("https://api.test", ["read"], timedelta(minutes=5))  # type: ignore[call-arg]
    str.upper(tokens.get())  # type: ignore[arg-type]
    tokens.invalidate("token")  # type: ignore[arg-type]
    str(other.get().token)  # type: ignore[attr-defined]
