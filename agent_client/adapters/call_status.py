"""What the end of a gRPC call with a token means. Pure; what :mod:`agent_client.adapters.response` is for HTTP.

=========================================  ==========================================================
UNAUTHENTICATED, ``TOKEN_REJECTED``        ``Retry`` with a fresh token, once; then ``TokenRefused``
PERMISSION_DENIED, ``SCOPE_INSUFFICIENT``  ``ScopeInsufficient``
FAILED_PRECONDITION, ``STEP_UP_NEEDED``    ``StepUpRequired``
everything else                            ``Pass``
=========================================  ==========================================================

The reasons are those of google.rpc.ErrorInfo as the interceptors of :mod:`agent_client.verification` send it. Its
metadata may have ``scopes`` and ``acrValues``, between spaces, ``maxAge`` in seconds, and ``resourceMetadata``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from agent_client.adapters.response import (
    Pass,
    Raise,
    Retry,
    scope_insufficient,
    step_up_required,
    token_refused,
    without_token,
)
from agent_client.failures import DETAILS_KEY, ERROR_DOMAIN
from agent_client.resource_errors import ServerAnswer

if TYPE_CHECKING:
    from agent_client.access_token import AccessToken
    from agent_client.adapters.response import Verdict

TOKEN_REJECTED = (code_pb2.UNAUTHENTICATED, "TOKEN_REJECTED")
SCOPE_INSUFFICIENT = (code_pb2.PERMISSION_DENIED, "SCOPE_INSUFFICIENT")
STEP_UP_NEEDED = (code_pb2.FAILED_PRECONDITION, "STEP_UP_NEEDED")
MAX_DETAILS_BYTES = 16_384
"""The longest status message that is read: gRPC's own hard limit for all metadata of a call, where nobody sets one."""

_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: the number of its status code, its text, and its trailing metadata."""

    code: int
    text: str = field(repr=False)
    trailers: tuple[tuple[str, str | bytes], ...] = field(repr=False)


def verdict_of_call(ended: Ended, sent: AccessToken, *, retried: bool) -> Verdict:
    """Return what to do about the end of a call that carried the token ``sent``; ``retried``: the second one."""
    info = _error_info(ended)
    reason, said = (ended.code, info.reason), info.metadata.get
    if reason == TOKEN_REJECTED:
        return Raise(token_refused(_told(ended, info, sent), retried=True)) if retried else Retry()
    if reason == SCOPE_INSUFFICIENT:
        return Raise(scope_insufficient(_told(ended, info, sent), said("scopes", "")))
    if reason == STEP_UP_NEEDED:
        wanted = {"acr_values": said("acrValues", ""), "max_age": said("maxAge", ""), "scopes": said("scopes", "")}
        return Raise(step_up_required(_told(ended, info, sent), **wanted))
    return Pass()


def _error_info(ended: Ended) -> ErrorInfo:
    """Return the ErrorInfo of a resource server, or an empty one; that of a proxy in between has another domain."""
    for key, value in ended.trailers:
        if key == DETAILS_KEY and isinstance(value, bytes) and len(value) <= MAX_DETAILS_BYTES:
            return _info_of_status(value, ended.code)
    return ErrorInfo()


def _info_of_status(value: bytes, code: int) -> ErrorInfo:
    try:
        status = Status.FromString(value)
        for detail in status.details if status.code == code else ():
            info = ErrorInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                return info
    except DecodeError:
        pass
    return ErrorInfo()


def _told(ended: Ended, info: ErrorInfo, sent: AccessToken) -> ServerAnswer:
    texts = [(key, value) for key, value in ended.trailers if isinstance(value, str)]
    return ServerAnswer(
        status=ended.code,
        headers=tuple((key, without_token(value, sent)) for key, value in texts),
        description=_printable(without_token(ended.text, sent)),
        resource_metadata=_printable(info.metadata.get("resourceMetadata", "")),
    )


def _printable(text: str) -> str | None:
    return _UNPRINTABLE.sub("?", text) or None
