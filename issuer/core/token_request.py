"""A token request that cannot be wrong: parsed at the edge, frozen, with every size bounded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from issuer.core.errors import FieldViolation, InvalidTokenRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AUDIENCE_BYTES = 2048
"""Audiences are URIs in practice; the bound is that of a SPIFFE ID (SPIFFE-ID section 2.3)."""
MAX_SCOPES = 32
MAX_SCOPE_BYTES = 128
MAX_APPLICATION_BYTES = 128
MAX_INTENT_BYTES = 256
MAX_TTL = timedelta(days=366)
"""No policy allows more; a larger value is a mistake of units rather than a wish."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3, scope-token
_AUDIENCE = re.compile(r"[\x21-\x7e]+")  # RFC 7519 section 2, StringOrURI; printable, without spaces
_INTENT = re.compile(r"[\x20-\x7e]+")
_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GrantType(StrEnum):
    """How a caller asks: by itself, with another's token, with a declared intent, or for a window of access."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105 - the name of a grant type
    INTENT = "intent"
    JIT = "jit"


@dataclass(frozen=True, slots=True)
class Intent:
    """What the caller says it will do with the token. Each 1 to 256 printable ASCII characters, or ``None``.

    Attributes:
        operation: What will be done, as in ``settle-batch``.
        resource: To what.
        workflow: The automation that it is a part of; facts about it count only if they name this caller.
        ticket: The change ticket, likewise.
        transaction: The transaction id, likewise.
    """

    operation: str | None = None
    resource: str | None = None
    workflow: str | None = None
    ticket: str | None = None
    transaction: str | None = None


def intent_text(intent: Intent | None) -> str:
    """Return an intent as JSON; empty for none."""
    if intent is None:
        return ""
    said = {name: value for name in intent.__slots__ if (value := getattr(intent, name)) is not None}
    return json.dumps(said, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a caller claims to need. Nothing in it is proved; :class:`~issuer.core.caller.Caller` is.

    Attributes:
        audience: The one API the token is for, 1 to 2,048 printable ASCII bytes.
        scopes: 1 to 32 distinct scope tokens (RFC 6749 section 3.3), in the caller's order.
        ttl: The lifetime asked for, positive; ``None`` asks for the longest that policy allows.
        application: On whose behalf the caller says it acts; ``None`` when it does not say.
        bind_certificate: The caller asks for a token bound to its certificate (RFC 8705 section 3).
        allow_partial: Grant what can be granted rather than all or nothing.
        intent: What the token is for; ``None`` when the caller does not say.
        grant_type: How it is asked for; set by the method that was called, never by the message.
    """

    audience: str
    scopes: tuple[str, ...]
    ttl: timedelta | None = None
    application: str | None = None
    bind_certificate: bool = False
    allow_partial: bool = False
    intent: Intent | None = None
    grant_type: GrantType = GrantType.CLIENT_CREDENTIALS

    def __post_init__(self) -> None:
        """Refuse a value that breaks a promise above.

        Raises:
            InvalidTokenRequest: With every violation found, each with its field.
        """
        violations = [
            *_audience_faults(self.audience),
            *_scope_faults(self.scopes),
            *_ttl_faults(self.ttl),
            *_application_faults(self.application),
            *_intent_faults(self.intent),
        ]
        if violations:
            raise InvalidTokenRequest(tuple(violations))


def _audience_faults(audience: str) -> list[FieldViolation]:
    if not audience:
        return [FieldViolation("audience", "is required: name the one API that the token is for")]
    if len(audience) > MAX_AUDIENCE_BYTES:
        return [FieldViolation("audience", f"is longer than {MAX_AUDIENCE_BYTES} bytes")]
    if not _AUDIENCE.fullmatch(audience):
        return [FieldViolation("audience", "has a space, a control or a non-ASCII character")]
    return []


def _scope_faults(scopes: Sequence[str]) -> list[FieldViolation]:
    if not scopes:
        return [FieldViolation("scopes", "is required: name at least one scope; empty never means all")]
    if len(scopes) > MAX_SCOPES:
        return [FieldViolation("scopes", f"has more than {MAX_SCOPES} entries")]
    faults = []
    seen: set[str] = set()
    for position, scope in enumerate(scopes):
        if fault := _scope_fault(scope, seen):
            faults.append(FieldViolation(f"scopes[{position}]", fault))
        seen.add(scope)
    return faults


def _scope_fault(scope: str, seen: set[str]) -> str | None:
    if not scope:
        return "is empty"
    if len(scope) > MAX_SCOPE_BYTES:
        return f"is longer than {MAX_SCOPE_BYTES} bytes"
    if not _SCOPE.fullmatch(scope):
        return "has a character that RFC 6749 section 3.3 does not allow in a scope"
    if scope in seen:
        return "is named twice"
    return None


def _ttl_faults(ttl: timedelta | None) -> list[FieldViolation]:
    if ttl is None or timedelta(0) < ttl <= MAX_TTL:
        return []
    return [FieldViolation("ttl", f"must be positive and at most {MAX_TTL.days} days")]


def _application_faults(application: str | None) -> list[FieldViolation]:
    if application is None:
        return []
    if len(application) > MAX_APPLICATION_BYTES:
        return [FieldViolation("application", f"is longer than {MAX_APPLICATION_BYTES} bytes")]
    if not _APPLICATION.fullmatch(application):
        return [FieldViolation("application", "must be letters, digits, '.', '_' and '-', first a letter or digit")]
    return []


def _intent_faults(intent: Intent | None) -> list[FieldViolation]:
    if intent is None:
        return []
    said = {field.name: getattr(intent, field.name) for field in fields(intent)}
    return [
        FieldViolation(f"intent.{name}", f"must be 1 to {MAX_INTENT_BYTES} printable ASCII characters")
        for name, text in said.items()
        if text is not None and not (len(text) <= MAX_INTENT_BYTES and _INTENT.fullmatch(text))
    ]
