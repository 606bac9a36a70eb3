"""What a resource server verifies our tokens with.

::

    from agent_client.verification import TokenVerifier

    verifier = TokenVerifier("https://issuer.prod.example", "https://ledger.prod.example")
    token = verifier.verify(text, scopes=["ledger.read"])     # raises VerificationError
    token.subject                                             # spiffe://prod.example/ns/payments/sa/settler

Errors are drawn in :mod:`agent_client.verification.errors`; the rules a token has to pass are listed in
:mod:`agent_client.verification.token_rules`.
"""

from __future__ import annotations

from agent_client.verification.current import NoCurrentToken, current_token, requires
from agent_client.verification.errors import (
    ApplicationRejected,
    InsufficientScope,
    KeysUnavailable,
    RejectionReason,
    RevocationsUnavailable,
    TokenRejected,
    VerificationError,
    VerificationUnavailable,
)
from agent_client.verification.key_sources import FetchedKeys, IssuerKeys, KeySource
from agent_client.verification.metadata_keys import MetadataKeys
from agent_client.verification.request_errors import AuthorizationMalformed, MethodNotListed, StepUpNeeded, TokenMissing
from agent_client.verification.resource_metadata import ResourceMetadata
from agent_client.verification.revocations import RevocationStream
from agent_client.verification.revocations_aio import AsyncRevocationStream
from agent_client.verification.revocations_state import RevocationCheck
from agent_client.verification.status_lists import StatusLists
from agent_client.verification.verified_token import Actor, VerifiedToken
from agent_client.verification.verifier import TokenVerifier

__all__ = [
    "Actor",
    "ApplicationRejected",
    "AsyncRevocationStream",
    "AuthorizationMalformed",
    "FetchedKeys",
    "InsufficientScope",
    "IssuerKeys",
    "KeySource",
    "KeysUnavailable",
    "MetadataKeys",
    "MethodNotListed",
    "NoCurrentToken",
    "RejectionReason",
    "ResourceMetadata",
    "RevocationCheck",
    "RevocationStream",
    "RevocationsUnavailable",
    "StatusLists",
    "StepUpNeeded",
    "TokenMissing",
    "TokenRejected",
    "TokenVerifier",
    "VerificationError",
    "VerificationUnavailable",
    "VerifiedToken",
    "current_token",
    "requires",
]
