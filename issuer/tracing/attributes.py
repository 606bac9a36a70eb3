"""What spans tell of a call: every attribute's name, and the only way from a log line's fields to attributes.

A field that is not listed here is never sent. The token's id and hash are not listed; who called, from where and for
what is sent only where `[tracing] identities` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = str | int | bool

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
STATUS_CODE: Final = "rpc.response.status_code"
"""As of 1.44.0 of OpenTelemetry's conventions; `rpc.status_code` in what comes after it."""
ERROR_TYPE: Final = "error.type"

_ALWAYS: Final = {
    "request_id": "issuer.request_id",
    "decision_id": "issuer.decision_id",
    "reason": "issuer.reason",
    "policy": "issuer.policy.digest",
    "grant_type": "issuer.grant_type",
    "lifetime_s": "issuer.token.lifetime",
    "lifetime_bound": "issuer.token.lifetime_bound",
    "legacy": "issuer.token.legacy",
    "items": "issuer.batch.items",
    "items_refused": "issuer.batch.items_refused",
}
_IDENTITIES: Final = {
    "caller": "issuer.caller",
    "audience": "issuer.audience",
    "application": "issuer.application",
}
SERVER_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""The statuses for which a server's span is an error, by OpenTelemetry's conventions. A denial is none of them."""


def call_attributes(method: str, code: str, fields: Mapping[str, object], *, identities: bool) -> dict[str, Value]:
    """Return the attributes of a call's span.

    Args:
        method: The full name, ``package.Service/Method``.
        code: The name of the gRPC status.
        fields: What the call's log line tells.
        identities: Whether to tell who called, and for which API.
    """
    attributes: dict[str, Value] = {RPC_SYSTEM: "grpc", RPC_METHOD: method, STATUS_CODE: code}
    if code in SERVER_ERRORS:
        attributes[ERROR_TYPE] = str(fields.get("reason") or code)
    for field, name in (_ALWAYS | _IDENTITIES if identities else _ALWAYS).items():
        value = fields.get(field)
        if isinstance(value, Value) and value != "":
            attributes[name] = value
    return attributes
