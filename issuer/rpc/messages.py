"""Protobuf messages to core values and back. Nothing past this file sees a message; nothing before it sees a value."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from issuer.core.approval_state import COLLECTION
from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.token import TOKEN_SCHEME
from issuer.core.token_request import MAX_TTL, GrantType, Intent, TokenRequest
from issuer.revocation_feed import Position
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from issuer.core.access import Access, AccessScope
    from issuer.core.own_token import OwnToken
    from issuer.introspection import Introspection
    from issuer.issuance import IssuedToken
    from issuer.revocation_feed import DeadTokens, News

MAX_BATCH_ITEMS = 256
"""The contract's bound, in the comment of BatchIssueTokensRequest."""
MAX_TOKEN = 16 * 1024
"""Characters of a token: 32 scopes of 128 bytes, an audience and a subject, twice, of 2,048 bytes each, in base64."""
MAX_TOKEN_ID = 128

MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 2048, 512
"""Requests that are remembered, and how long each may be: 4 MiB at most, and most of them take 100 bytes."""

_NANOS = 1_000_000_000


def token_request_from_proto(
    message: pb.IssueTokenRequest, grant_type: GrantType = GrantType.CLIENT_CREDENTIALS
) -> TokenRequest:
    """Parse a request into a value that cannot be wrong; what was asked before is remembered by its bytes.

    Args:
        message: What is asked.
        grant_type: How: by which method.

    Raises:
        InvalidTokenRequest: With every violation, each naming its field as the .proto spells it.
    """
    # What is said of an intent is new each time; everything else a workload asks for again and again.
    if message.HasField("intent") or len(encoded := message.SerializeToString()) > MAX_REMEMBERED_BYTES:
        return _parsed(message, grant_type)
    return _remembered(encoded, grant_type)


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered(encoded: bytes, grant_type: GrantType) -> TokenRequest:
    return _parsed(pb.IssueTokenRequest.FromString(encoded), grant_type)


def _parsed(message: pb.IssueTokenRequest, grant_type: GrantType) -> TokenRequest:
    violations: list[FieldViolation] = []
    ttl = _ttl(message, violations)
    bind_certificate = _binding(message, violations)
    try:
        request = TokenRequest(
            audience=message.audience,
            scopes=tuple(message.scopes),
            ttl=ttl,
            application=message.application or None,
            bind_certificate=bind_certificate,
            allow_partial=message.allow_partial,
            intent=_intent(message.intent) if message.HasField("intent") else None,
            grant_type=grant_type,
        )
    except InvalidTokenRequest as error:
        raise InvalidTokenRequest((*error.violations, *violations)) from None
    if violations:
        raise InvalidTokenRequest(tuple(violations))
    return request


def _intent(message: pb.Intent) -> Intent:
    return Intent(
        operation=message.operation or None,
        resource=message.resource or None,
        workflow=message.workflow or None,
        ticket=message.ticket or None,
        transaction=message.transaction or None,
    )


def _ttl(message: pb.IssueTokenRequest, violations: list[FieldViolation]) -> timedelta | None:
    if not message.HasField("ttl"):
        return None
    seconds, nanos = message.ttl.seconds, message.ttl.nanos
    # Checked before the conversion: ToTimedelta overflows on what a hostile caller may send.
    if not 0 <= seconds <= MAX_TTL.total_seconds() or not 0 <= nanos < _NANOS or seconds + nanos == 0:
        violations.append(FieldViolation("ttl", f"must be positive and at most {MAX_TTL.days} days"))
        return None
    return message.ttl.ToTimedelta()


def _binding(message: pb.IssueTokenRequest, violations: list[FieldViolation]) -> bool:
    if not message.HasField("proof_binding"):
        return False
    if message.proof_binding != pb.PROOF_BINDING_TLS_CERTIFICATE:
        violations.append(FieldViolation("proof_binding", "is not a binding that this issuer knows"))
    return True


def batch_items(message: pb.BatchIssueTokensRequest) -> Iterable[pb.IssueTokenRequest]:
    """Return the items of a batch.

    Raises:
        InvalidTokenRequest: When there is none, or more than 256.
    """
    if not 1 <= len(message.requests) <= MAX_BATCH_ITEMS:
        raise InvalidTokenRequest((FieldViolation("requests", f"must have 1 to {MAX_BATCH_ITEMS} entries"),))
    return message.requests


def issued_token_to_proto(issued: IssuedToken) -> pb.IssueTokenResponse:
    """Return the answer for a token."""
    response = pb.IssueTokenResponse()
    fill_in_issued_token(response, issued)
    return response


def fill_in_issued_token(response: pb.IssueTokenResponse, issued: IssuedToken) -> None:
    """Make an empty message the answer for a token. The only call of ``reveal`` in the server.

    Field by field and in its place: a message that is given to the constructor of another is copied.
    """
    grant = issued.grant
    if issued.token is not None:
        response.token = issued.token.reveal()
    response.token_type = TOKEN_SCHEME
    response.expire_time.seconds = issued.expires_at
    response.renew_time.seconds = issued.renew_at
    response.scopes.extend(grant.scopes)
    response.refused_scopes.extend(grant.refused_scopes)
    response.token_id = issued.token_id
    response.decision_id = issued.decision_id
    response.application = grant.application or ""
    # A token of a window of access uses up none: opening the window did.
    if grant.approval is not None and grant.approval.number:
        response.approval_request = f"{COLLECTION}/{grant.approval.id}"


def accesses_to_proto(accesses: Iterable[Access]) -> pb.ListAccessResponse:
    """Return the answer of ListAccess."""
    return pb.ListAccessResponse(
        accesses=[
            pb.Access(
                audience=access.audience,
                application=access.application or "",
                scopes=[_access_scope_to_proto(scope) for scope in access.scopes if scope.available],
                unavailable_scopes=[_unavailable_to_proto(scope) for scope in access.scopes if not scope.available],
            )
            for access in accesses
        ]
    )


def _access_scope_to_proto(scope: AccessScope) -> pb.AccessScope:
    message = pb.AccessScope(
        name=scope.name,
        risk=scope.risk,
        max_ttl=Duration(seconds=int(scope.max_ttl.total_seconds())),
        binding_required=scope.binding_required,
    )
    if scope.expire_time is not None:
        message.expire_time.FromDatetime(scope.expire_time)
    return message


def _unavailable_to_proto(scope: AccessScope) -> pb.UnavailableScope:
    return pb.UnavailableScope(
        name=scope.name,
        risk=scope.risk,
        missing=scope.missing,
        unmet_conditions=scope.unmet,
        approval_required=scope.approval_required,
    )


def check_token_text(text: str) -> None:
    """Refuse what is absent or too long to be a token.

    Raises:
        InvalidTokenRequest: It is.
    """
    if not 1 <= len(text) <= MAX_TOKEN:
        raise InvalidTokenRequest((FieldViolation("token", f"must have 1 to {MAX_TOKEN} characters"),))


def named_token(message: pb.RevokeTokenRequest, introspection: Introspection) -> str | None:
    """Return the ``jti`` of the token that is meant; ``None`` when it is none of ours.

    Raises:
        InvalidTokenRequest: None is named.
    """
    if message.WhichOneof("which") == "token_id":
        if not 1 <= len(message.token_id) <= MAX_TOKEN_ID:
            raise InvalidTokenRequest((FieldViolation("token_id", f"must have 1 to {MAX_TOKEN_ID} characters"),))
        return message.token_id
    check_token_text(message.token)
    own = introspection.read(message.token)
    return None if own is None else own.token_id


def introspected_to_proto(token: OwnToken) -> pb.IntrospectTokenResponse:
    """Return the answer for a token that is good."""
    return pb.IntrospectTokenResponse(
        active=True,
        scopes=token.scopes,
        client_id=token.client_id,
        subject=token.subject,
        audience=token.audience,
        issuer=token.issuer,
        token_id=token.token_id,
        expire_time=Timestamp(seconds=token.expires_at),
        issue_time=Timestamp(seconds=token.issued_at),
        application=token.application,
        certificate_thumbprint=token.certificate_thumbprint,
        token_type=TOKEN_SCHEME,
        not_before_time=Timestamp(seconds=token.not_before),
        actors=[pb.IntrospectedActor(subject=actor.subject, issuer=actor.issuer) for actor in token.actors],
        authorization_details=token.details,
        transaction=token.transaction,
        grant_id=token.grant_id,
    )


def position_from_proto(message: pb.WatchRevocationsRequest) -> Position | None:
    """Return where a stream is to go on; ``None`` for the beginning."""
    return Position(message.after, message.ledger) if message.HasField("after") and message.after >= 0 else None


def news_to_proto(news: News) -> pb.WatchRevocationsResponse:
    """Return a message of WatchRevocations."""
    message = pb.WatchRevocationsResponse(dead=map(_dead_to_proto, news.dead), position=news.position)
    if (begun := news.beginning) is not None:
        message.beginning.issuer = begun.issuer
        message.beginning.ledger = begun.ledger
        message.beginning.audiences.extend(begun.audiences)
        message.beginning.resumed = begun.resumed
    return message


def _dead_to_proto(dead: DeadTokens) -> pb.DeadTokens:
    return pb.DeadTokens(
        revocation_id=dead.revocation_id,
        token_ids=dead.token_ids,
        token_expire_seconds=dead.token_ends,
        workload=dead.workload,
        application=dead.application,
        audience=dead.audience,
        key_id=dead.key_id,
        issued_from=_optional_second(dead.issued_from),
        issued_until=_optional_second(dead.issued_until),
        forget_time=_optional_second(dead.forget_at),
    )


def _optional_second(second: int | None) -> Timestamp | None:
    return None if second is None else Timestamp(seconds=second)
