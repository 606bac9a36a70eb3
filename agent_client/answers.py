"""What the issuer answered, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from agent_client.access_token import AccessToken
from agent_client.errors import AnswerRejected, IssuerRequestError
from agent_client.failures import failure_of_status
from agent_client.token_checks import CallerIdentity, is_bound, issue_time, token_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from agent_client.requests import TokenRequest
    from issuer_api.v1 import issuer_service_pb2 as pb

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and what its holder must know about it.

    Attributes:
        token: The token; it prints as nothing, see :class:`AccessToken`.
        token_type: How to present it: ``Bearer``.
        expires_at: When it ends (UTC).
        renew_at: When to ask for the next one (UTC), at the latest ``expires_at``.
        scopes: What it allows, in the order asked.
        refused_scopes: What was left out; only with ``allow_partial``.
        token_id: Its ``jti``; empty with ``validate_only``.
        decision_id: The decision in the issuer's record.
        application: On whose behalf; ``None`` when it names none.
        issued_at: When its lifetime began (UTC), by the issuer's clock: its ``iat``, before ``expires_at``. With
            ``validate_only``, when the answer arrived, by this host's clock. A lifetime is ``expires_at - issued_at``,
            two times of one clock; this host's own clock need not agree with it.
        certificate_bound: Whether it only works together with the certificate that this workload had then (RFC 8705).
        subject: On whose behalf, where that is another than this workload: the token's ``sub``; ``None`` otherwise.
        approval_request: The name of the request for approval that it used; ``None`` when it needed none.
    """

    token: AccessToken
    token_type: str
    expires_at: datetime
    renew_at: datetime
    scopes: tuple[str, ...]
    refused_scopes: tuple[str, ...]
    token_id: str
    decision_id: str
    application: str | None
    issued_at: datetime
    certificate_bound: bool = False
    subject: str | None = None
    approval_request: str | None = None


@dataclass(frozen=True, slots=True)
class AccessScope:
    """One scope that the caller may ask for.

    Attributes:
        name: The scope.
        risk: The tier that policy gives it.
        max_ttl: The longest lifetime that policy allows.
        binding_required: Tokens with it are always bound to the caller's certificate.
        expires_at: When the grant ends (UTC); ``None`` when it does not.
    """

    name: str
    risk: str
    max_ttl: timedelta
    binding_required: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class UnavailableScope:
    """One scope that is out of reach now.

    Attributes:
        name: The scope.
        risk: The tier that policy gives it.
        missing: Facts and parts of the request that a rule needs: ``facts.posture.status``, ``request.intent.ticket``.
        unmet_conditions: Named conditions that are not met.
        approval_required: Somebody has to approve.
    """

    name: str
    risk: str
    missing: tuple[str, ...]
    unmet_conditions: tuple[str, ...]
    approval_required: bool


@dataclass(frozen=True, slots=True)
class Access:
    """One audience that the caller may ask for, on behalf of one application (``None``: of none)."""

    audience: str
    application: str | None
    scopes: tuple[AccessScope, ...]
    unavailable_scopes: tuple[UnavailableScope, ...] = ()


@dataclass(frozen=True, slots=True)
class KeySet:
    """The issuer's public keys.

    Attributes:
        jwks: A JWK Set (RFC 7517), as JSON objects.
        max_age: How long it may be kept.
    """

    jwks: Mapping[str, Any]
    max_age: timedelta


def issued_token(
    answer: pb.IssueTokenResponse,
    request: TokenRequest,
    caller: CallerIdentity,
    now: datetime,
    on_behalf_of: str | None = None,
) -> IssuedToken:
    """Return the token of an answer.

    The signature is **not** verified; that the token is the one asked for is (see :mod:`agent_client.token_checks`).

    Args:
        answer: What the issuer sent.
        request: What was asked for.
        caller: By whom.
        now: When it came, UTC.
        on_behalf_of: The SPIFFE ID of whom the caller acts for; ``None`` where it acts for itself.

    Raises:
        AnswerRejected: The answer does not fit the request, the caller or the time.
    """
    faults = list(token_faults(answer, request, caller, now, on_behalf_of))
    expires_at, renew_at = _moment(answer.expire_time), _moment(answer.renew_time)
    if renew_at > expires_at:
        faults.append("its time of renewal is past its end")
    if faults:
        message = f"the issuer's answer is not what was asked for: {'; '.join(faults)}"
        raise AnswerRejected(message, decision_id=answer.decision_id or None)
    return IssuedToken(
        token=AccessToken(answer.token),
        token_type=answer.token_type,
        expires_at=expires_at,
        renew_at=renew_at,
        scopes=tuple(answer.scopes),
        refused_scopes=tuple(answer.refused_scopes),
        token_id=answer.token_id,
        decision_id=answer.decision_id,
        application=answer.application or None,
        issued_at=now if request.validate_only else issue_time(answer.token),
        certificate_bound=is_bound(answer.token),
        subject=on_behalf_of or (request.on_behalf_of.name if request.on_behalf_of else None),
        approval_request=answer.approval_request or None,
    )


def batch_results(
    answer: pb.BatchIssueTokensResponse, requests: Sequence[TokenRequest], caller: CallerIdentity, now: datetime
) -> list[IssuedToken | IssuerRequestError]:
    """Return the result of each request, in their order. An item that does not fit is an error like the others.

    Raises:
        AnswerRejected: There is not one result for each request.
    """
    if len(answer.results) != len(requests):
        raise AnswerRejected(f"the issuer answered {len(answer.results)} of {len(requests)} requests")
    return [_item(result, request, caller, now) for result, request in zip(answer.results, requests, strict=True)]


def _item(
    result: pb.BatchIssueTokensResult, request: TokenRequest, caller: CallerIdentity, now: datetime
) -> IssuedToken | IssuerRequestError:
    if result.HasField("error"):
        return failure_of_status(result.error)
    try:
        return issued_token(result.response, request, caller, now)
    except AnswerRejected as error:
        return error.with_traceback(None)  # whose frames have the answer, and with it a token


def accesses(answer: pb.ListAccessResponse) -> list[Access]:
    """Return what the caller may ask for."""
    return [
        Access(
            audience=access.audience,
            application=access.application or None,
            scopes=tuple(_access_scope(scope) for scope in access.scopes),
            unavailable_scopes=tuple(_unavailable_scope(scope) for scope in access.unavailable_scopes),
        )
        for access in answer.accesses
    ]


def _access_scope(scope: pb.AccessScope) -> AccessScope:
    return AccessScope(
        name=scope.name,
        risk=scope.risk,
        max_ttl=_readable(scope.max_ttl.ToTimedelta),
        binding_required=scope.binding_required,
        expires_at=_moment(scope.expire_time) if scope.HasField("expire_time") else None,
    )


def _unavailable_scope(scope: pb.UnavailableScope) -> UnavailableScope:
    return UnavailableScope(
        name=scope.name,
        risk=scope.risk,
        missing=tuple(scope.missing),
        unmet_conditions=tuple(scope.unmet_conditions),
        approval_required=scope.approval_required,
    )


def key_set(answer: pb.GetKeySetResponse) -> KeySet:
    """Return the issuer's keys.

    Raises:
        AnswerRejected: It is no JWK Set.
    """
    jwks: object = _readable(lambda: json.loads(answer.jwks))
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise AnswerRejected("the issuer's keys are no JWK Set (RFC 7517 section 5)")
    return KeySet(jwks, _readable(answer.max_age.ToTimedelta))


def _moment(timestamp: Timestamp) -> datetime:
    return _readable(lambda: timestamp.ToDatetime(tzinfo=UTC))


def _readable(read: Callable[[], Value]) -> Value:
    try:
        return read()
    except (ValueError, OverflowError, RecursionError) as error:
        raise AnswerRejected(f"the issuer's answer cannot be read: {type(error).__name__}") from error
