"""The client as its users' type checkers see it. Never run: mypy reads it, and an unused ignore is an error too."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_type

from agent_client import (
    Access,
    AccessToken,
    ApprovalRequest,
    ApprovalState,
    Intent,
    IntentState,
    IssuedToken,
    IssuerClient,
    IssuerRequestError,
    KeySet,
    PolicyDenied,
    RegisteredIntent,
    ScopeNotAllowed,
    SubjectToken,
    SubjectTokenType,
    SyncIssuerClient,
    TokenRequest,
    Violation,
    WorkloadApiError,
)


def everything_by_thread() -> str:
    with SyncIssuerClient() as client:
        issued = client.issue_token("https://api.test", ["read"])
        assert_type(issued, IssuedToken)
        assert_type(issued.token, AccessToken)
        assert_type(issued.expires_at, datetime)
        assert_type(issued.issued_at, datetime)
        assert_type(issued.renew_at, datetime)
        assert_type(issued.scopes, tuple[str, ...])
        assert_type(issued.application, str | None)
        assert_type(client.list_access(), list[Access])
        assert_type(client.get_key_set(timeout=2), KeySet)
        registered = client.register_intent("https://api.test", ["pay"], operation="settle", consumer="spiffe://a/b")
        assert_type(registered, RegisteredIntent)
        assert_type(registered.state, IntentState)
        assert_type(client.redeem_intent(registered.name, parameters=b"{}"), IssuedToken)
        assert_type(client.list_intents(), list[RegisteredIntent])
        assert_type(client.cancel_intent(client.get_intent(registered.name).name, reason="x"), RegisteredIntent)
        subject = SubjectToken("a.b.c", SubjectTokenType.ID_TOKEN)
        exchanged = client.exchange_token(subject, "https://api.test", ["read"])
        assert_type(exchanged.subject, str | None)
        assert_type(client.tokens_for("https://api.test", ["read"], on_behalf_of=subject).get(), IssuedToken)
        assert_type(client.svid.spiffe_id, str)
        asked = client.request_approval("https://api.test", ["refund"], reason="charged twice")
        assert_type(asked, ApprovalRequest)
        assert_type(client.wait_for_approval(asked.name, timeout=900).approved, bool)
        assert_type(client.cancel_approval(asked.name).state, ApprovalState)
        return issued.token.reveal()


async def everything_by_task() -> str:
    async with IssuerClient("issuer:8443", workload_api="unix:///a", spiffe_id="spiffe://a/b", timeout=2.5) as client:
        issued = await client.issue_token(
            "https://api.test",
            ("read", "write"),
            ttl=timedelta(minutes=5),
            application="payments",
            bind_certificate=True,
            allow_partial=True,
            validate_only=False,
            intent=Intent(ticket="CHG-1"),
            timeout=1,
        )
        assert_type(issued, IssuedToken)
        assert_type(await client.list_access(), list[Access])
        asked = await client.request_approval("https://api.test", ["refund"])
        assert_type(await client.wait_for_approval(asked.name, timeout=900), ApprovalRequest)
        assert_type((await client.get_key_set()).jwks["keys"], Any)
        return issued.token.reveal()


def a_batch_is_told_apart(client: SyncIssuerClient) -> list[str]:
    tokens = []
    for result in client.issue_tokens([TokenRequest("https://api.test", ["read"])]):
        if isinstance(result, IssuerRequestError):
            assert_type(result.remedy, str)
            continue
        assert_type(result, IssuedToken)
        tokens.append(result.token.reveal())
    return tokens


def errors_are_typed(client: SyncIssuerClient) -> None:
    try:
        client.issue_token("https://api.test", ["read"])
    except ScopeNotAllowed as error:
        assert_type(error.scopes, tuple[str, ...])
    except PolicyDenied as error:
        assert_type(error.decision_id, str | None)
    except IssuerRequestError as error:
        assert_type(error.reason, str | None)
        assert_type(error.violations, tuple[Violation, ...])
        assert_type(error.retryable, bool)
        assert_type(error.retry_after, timedelta | None)
    except WorkloadApiError:
        pass


def mistakes_are_found(client: SyncIssuerClient, issued: IssuedToken) -> None:
    client.issue_token("https://api.test")  # type: ignore[call-arg]
    client.issue_token("https://api.test", ["read"], 60)  # type: ignore[call-arg, arg-type]
    client.issue_token("https://api.test", ["read"], ttl=60)  # type: ignore[arg-type]
    issued.scopes = ()  # type: ignore[misc]
    str.upper(issued.token)  # type: ignore[arg-type]
