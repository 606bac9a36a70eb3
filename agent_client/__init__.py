"""What a workload uses to ask spiffe-issuer for tokens.

::

    from agent_client import SyncIssuerClient

    with SyncIssuerClient() as issuer:      # addresses from SPIFFE_ENDPOINT_SOCKET and SPIFFE_ISSUER_ADDRESS
        ledger = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
        headers = {"Authorization": f"Bearer {ledger.get().token.reveal()}"}  # kept, and renewed in the background

:class:`IssuerClient` is the same for asyncio. Errors are drawn in :mod:`agent_client.errors`; identities come from the
SPIFFE Workload API, whose errors are :class:`WorkloadApiError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_client.access import AccessWindow, AsyncAccess, SyncAccess
    from agent_client.access_token import AccessToken
    from agent_client.aio import IssuerClient
    from agent_client.answers import Access, AccessScope, IssuedToken, KeySet, UnavailableScope
    from agent_client.approvals import ApprovalRequest, ApprovalState
    from agent_client.credentials import SpiffeIdNotGiven, SvidOutdated, TrustBundleMissing
    from agent_client.endpoint import ISSUER_DNS_NAME
    from agent_client.errors import (
        AccessDenied,
        AccessEnded,
        AnswerRejected,
        ApplicationNotAllowed,
        ApplicationRequired,
        ApprovalRequired,
        AudienceNotAllowed,
        ChainRejected,
        ClientClosed,
        ClientForked,
        ClientNotConfigured,
        ConditionNotMet,
        FactMissing,
        GrantExpired,
        IntentNotOpen,
        InvalidTokenRequest,
        IssuerFault,
        IssuerNotTrusted,
        IssuerRequestError,
        IssuerTimedOut,
        IssuerUnavailable,
        LimitExceeded,
        NotAuthenticated,
        NotFound,
        PolicyDenied,
        PreconditionFailed,
        RpcNotAllowed,
        ScopeNotAllowed,
        SubjectTokenNotTaken,
        SvidExpiresSoon,
        SvidRejected,
        TrustDomainRejected,
        Violation,
    )
    from agent_client.intents import IntentState, RegisteredIntent
    from agent_client.requests import Intent, TokenRequest
    from agent_client.resource_errors import (
        InsecureTransport,
        ResourceRefused,
        ScopeInsufficient,
        StepUpRequired,
        TokenRefused,
    )
    from agent_client.subject_token import SubjectToken, SubjectTokenType
    from agent_client.sync import SyncIssuerClient
    from agent_client.tokens.aio import TokenSource
    from agent_client.tokens.sync import SyncTokenSource
    from agent_client.workload_api_errors import (
        NoIdentityIssued,
        WorkloadApiError,
        WorkloadApiForbidden,
        WorkloadApiNotConfigured,
        WorkloadApiUnavailable,
    )

__all__ = [
    "ISSUER_DNS_NAME",
    "Access",
    "AccessDenied",
    "AccessEnded",
    "AccessScope",
    "AccessToken",
    "AccessWindow",
    "AnswerRejected",
    "ApplicationNotAllowed",
    "ApplicationRequired",
    "ApprovalRequest",
    "ApprovalRequired",
    "ApprovalState",
    "AsyncAccess",
    "AudienceNotAllowed",
    "ChainRejected",
    "ClientClosed",
    "ClientForked",
    "ClientNotConfigured",
    "ConditionNotMet",
    "FactMissing",
    "GrantExpired",
    "InsecureTransport",
    "Intent",
    "IntentNotOpen",
    "IntentState",
    "InvalidTokenRequest",
    "IssuedToken",
    "IssuerClient",
    "IssuerFault",
    "IssuerNotTrusted",
    "IssuerRequestError",
    "IssuerTimedOut",
    "IssuerUnavailable",
    "KeySet",
    "LimitExceeded",
    "NoIdentityIssued",
    "NotAuthenticated",
    "NotFound",
    "PolicyDenied",
    "PreconditionFailed",
    "RegisteredIntent",
    "ResourceRefused",
    "RpcNotAllowed",
    "ScopeInsufficient",
    "ScopeNotAllowed",
    "SpiffeIdNotGiven",
    "StepUpRequired",
    "SubjectToken",
    "SubjectTokenNotTaken",
    "SubjectTokenType",
    "SvidExpiresSoon",
    "SvidOutdated",
    "SvidRejected",
    "SyncAccess",
    "SyncIssuerClient",
    "SyncTokenSource",
    "TokenRefused",
    "TokenRequest",
    "TokenSource",
    "TrustBundleMissing",
    "TrustDomainRejected",
    "UnavailableScope",
    "Violation",
    "WorkloadApiError",
    "WorkloadApiForbidden",
    "WorkloadApiNotConfigured",
    "WorkloadApiUnavailable",
]

_HOMES = {
    "access": ("AccessWindow", "AsyncAccess", "SyncAccess"),
    "access_token": ("AccessToken",),
    "aio": ("IssuerClient",),
    "approvals": ("ApprovalRequest", "ApprovalState"),
    "answers": ("Access", "AccessScope", "IssuedToken", "KeySet", "UnavailableScope"),
    "credentials": ("SpiffeIdNotGiven", "SvidOutdated", "TrustBundleMissing"),
    "endpoint": ("ISSUER_DNS_NAME",),
    "intents": ("IntentState", "RegisteredIntent"),
    "requests": ("Intent", "TokenRequest"),
    "resource_errors": ("InsecureTransport", "ResourceRefused", "ScopeInsufficient", "StepUpRequired", "TokenRefused"),
    "subject_token": ("SubjectToken", "SubjectTokenType"),
    "sync": ("SyncIssuerClient",),
    "tokens.aio": ("TokenSource",),
    "tokens.sync": ("SyncTokenSource",),
    "workload_api_errors": (
        "NoIdentityIssued",
        "WorkloadApiError",
        "WorkloadApiForbidden",
        "WorkloadApiNotConfigured",
        "WorkloadApiUnavailable",
    ),
}
"""Where each name lives; those that are not here are errors. A name is imported when it is first used: gRPC and
py-spiffe take a third of a second, which the server's start and ``spiffe-token --help`` need not pay."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
