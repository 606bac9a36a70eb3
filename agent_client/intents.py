"""Intents: what one workload lets another do later, once. Requests as messages, answers as values; no I/O."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from agent_client.answers import issued_token
from agent_client.errors import AnswerRejected, InvalidTokenRequest
from agent_client.exchanges import Exchange
from agent_client.requests import TokenRequest, token_request_to_proto
from agent_client.token_checks import authorization_details
from issuer_api.v1 import intent_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_client.answers import IssuedToken
    from agent_client.exchanges import Circumstances

_SERVICE = pb.DESCRIPTOR.services_by_name["IntentService"].full_name
PAGE_SIZE = 200


class IntentState(StrEnum):
    """Where an intent stands. ``UNKNOWN`` is one that is newer than this client."""

    REGISTERED = "registered"
    REDEEMED = "redeemed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RegisteredIntent:
    """An intent, as the issuer tells it. All times are UTC.

    Attributes:
        name: ``intents/`` and an id; hand it to the consumer. It is no secret: only the consumer can redeem it.
        state: Where it stands.
        registrar: The SPIFFE ID of who registered it: the ``sub`` of its tokens.
        consumer: The SPIFFE ID of who may redeem it: their ``client_id``.
        audience: The API.
        scopes: What may be done there.
        application: On whose behalf; ``None`` for none.
        operation: What will be done.
        resource: To what; ``None`` for nothing that is named.
        parameters_digest: The SHA-256 of its parameters, ``sha256:`` and hexadecimal; ``None`` for none.
        transaction: The transaction id; ``None`` for none.
        not_before: From when it can be redeemed.
        expires_at: Until when; no token of it lives longer.
        uses: How many tokens may come of it.
        uses_left: How many more.
        max_ttl: No token of it lives longer.
        decision_id: The decision at its registration.
    """

    name: str
    state: IntentState
    registrar: str
    consumer: str
    audience: str
    scopes: tuple[str, ...]
    application: str | None
    operation: str
    resource: str | None
    parameters_digest: str | None
    transaction: str | None
    not_before: datetime
    expires_at: datetime
    uses: int
    uses_left: int
    max_ttl: timedelta
    decision_id: str


@dataclass(frozen=True, slots=True)
class IntentRequest:
    """What shall be done, by whom, and when. The issuer checks it; only types are looked at here.

    Attributes:
        token: The API, the scopes, and what else the registrar would ask for itself.
        operation: What will be done.
        consumer: The SPIFFE ID of who may redeem it, exactly.
        resource: To what.
        parameters: With what; the issuer keeps their SHA-256 alone. At most 64 KiB.
        parameters_digest: That digest, for those who have more: :func:`parameters_digest`.
        transaction: The transaction id.
        not_before: When it can be redeemed first, timezone-aware; ``None`` for at once.
        expires_at: When no more; ``None`` for an hour from now.
        uses: How many tokens may come of it.
        request_id: Names the request, so that repeating it registers nothing more; ``None`` for one of its own, which
            makes the retries of one call safe.
    """

    token: TokenRequest
    operation: str
    consumer: str
    resource: str | None = None
    parameters: bytes | None = None
    parameters_digest: str | None = None
    transaction: str | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    uses: int = 1
    request_id: str | None = None


def parameters_digest(parameters: bytes) -> str:
    """Return the digest of parameters, as intents have it: ``sha256:`` and hexadecimal."""
    return f"sha256:{sha256(parameters).hexdigest()}"


def register_intent(request: IntentRequest) -> Exchange[RegisteredIntent]:
    """Return the exchange that registers an intent.

    Raises:
        InvalidTokenRequest: A text cannot be sent, or both parameters and their digest are given.
        TypeError: A time has no time zone.
    """
    if request.parameters is not None and request.parameters_digest is not None:
        raise InvalidTokenRequest("give the parameters or their digest, not both")
    token = token_request_to_proto(request.token)
    try:
        message = pb.RegisterIntentRequest(
            audience=token.audience,
            scopes=token.scopes,
            application=token.application,
            operation=request.operation,
            resource=request.resource or "",
            consumer=request.consumer,
            uses=request.uses,
            transaction=request.transaction or "",
            request_id=request.request_id or secrets.token_urlsafe(16),
        )
        if request.parameters_digest is not None:
            message.parameters_digest = request.parameters_digest
    except UnicodeEncodeError as error:
        raise InvalidTokenRequest("the request has a text that is no Unicode") from error
    if request.parameters is not None:
        message.parameters = request.parameters
    if token.HasField("ttl"):
        message.ttl.CopyFrom(token.ttl)
    if token.HasField("proof_binding"):
        message.proof_binding = token.proof_binding
    for field, moment in (("not_before", request.not_before), ("expire_time", request.expires_at)):
        if moment is not None:
            if moment.tzinfo is None:
                raise TypeError(f"{field} has no time zone: use datetime.now(UTC)")
            getattr(message, field).FromDatetime(moment.astimezone(UTC))
    return Exchange(
        f"/{_SERVICE}/RegisterIntent",
        message,
        pb.RegisterIntentResponse.FromString,
        lambda answer, _: registered_intent(answer.intent),
    )


def get_intent(name: str) -> Exchange[RegisteredIntent]:
    """Return the exchange for one intent."""
    return Exchange(
        f"/{_SERVICE}/GetIntent",
        pb.GetIntentRequest(name=name),
        pb.GetIntentResponse.FromString,
        lambda answer, _: registered_intent(answer.intent),
    )


def list_intents(page_token: str) -> Exchange[tuple[list[RegisteredIntent], str]]:
    """Return the exchange for a page of the caller's intents, and the token of the next page; empty for the last."""
    return Exchange(
        f"/{_SERVICE}/ListIntents",
        pb.ListIntentsRequest(page_size=PAGE_SIZE, page_token=page_token),
        pb.ListIntentsResponse.FromString,
        lambda answer, _: ([registered_intent(each) for each in answer.intents], answer.next_page_token),
    )


def cancel_intent(name: str, reason: str) -> Exchange[RegisteredIntent]:
    """Return the exchange that takes an intent back."""
    return Exchange(
        f"/{_SERVICE}/CancelIntent",
        pb.CancelIntentRequest(name=name, reason=reason),
        pb.CancelIntentResponse.FromString,
        lambda answer, _: registered_intent(answer.intent),
    )


@dataclass(frozen=True, slots=True)
class Redemption:
    """What is redeemed, and for what token.

    Attributes:
        name: Of the intent.
        parameters_digest: Of the parameters that this workload was handed; ``None`` does not compare.
        scopes: Only these of the intent's; none for all.
        ttl: The lifetime asked for.
        bind_certificate: Ask for a token that only works together with this workload's certificate.
        allow_partial: Take the scopes that are granted, rather than all or nothing.
    """

    name: str
    parameters_digest: str | None = None
    scopes: Sequence[str] = ()
    ttl: timedelta | None = None
    bind_certificate: bool = False
    allow_partial: bool = False


def redeem_intent(redemption: Redemption) -> Exchange[IssuedToken]:
    """Return the exchange of an intent for its token."""
    wanted = TokenRequest(
        "", redemption.scopes, redemption.ttl, None, redemption.bind_certificate, redemption.allow_partial
    )
    token = token_request_to_proto(wanted)
    message = pb.RedeemIntentRequest(
        name=redemption.name,
        parameters_digest=redemption.parameters_digest or "",
        scopes=token.scopes,
        allow_partial=redemption.allow_partial,
    )
    if token.HasField("ttl"):
        message.ttl.CopyFrom(token.ttl)
    if token.HasField("proof_binding"):
        message.proof_binding = token.proof_binding
    return Exchange(
        f"/{_SERVICE}/RedeemIntent",
        message,
        pb.RedeemIntentResponse.FromString,
        lambda answer, call: _redeemed(answer, redemption, call),
    )


def _redeemed(answer: pb.RedeemIntentResponse, redemption: Redemption, call: Circumstances) -> IssuedToken:
    intent = registered_intent(answer.intent)
    if intent.name != redemption.name or intent.consumer != call.caller.spiffe_id:
        raise AnswerRejected("the issuer answered for another intent than the one that was redeemed")
    wanted = TokenRequest(
        intent.audience,
        redemption.scopes or intent.scopes,
        redemption.ttl,
        intent.application,
        redemption.bind_certificate,
        redemption.allow_partial,
    )
    issued = issued_token(answer.token, wanted, call.caller, call.answered_at, intent.registrar)
    details = authorization_details(answer.token.token)
    digests = [detail.get("parameters_digest") for detail in details]
    if redemption.parameters_digest is not None and digests != [redemption.parameters_digest]:
        raise AnswerRejected("the issuer's token is for other parameters than those that were redeemed")
    return issued


def registered_intent(message: pb.RegisteredIntent) -> RegisteredIntent:
    """Return an intent.

    Raises:
        AnswerRejected: It cannot be read.
    """
    try:
        return RegisteredIntent(
            name=message.name,
            state=_state(message.state),
            registrar=message.registrar,
            consumer=message.consumer,
            audience=message.audience,
            scopes=tuple(message.scopes),
            application=message.application or None,
            operation=message.operation,
            resource=message.resource or None,
            parameters_digest=message.parameters_digest or None,
            transaction=message.transaction or None,
            not_before=message.not_before.ToDatetime(tzinfo=UTC),
            expires_at=message.expire_time.ToDatetime(tzinfo=UTC),
            uses=message.uses,
            uses_left=message.uses_left,
            max_ttl=message.max_ttl.ToTimedelta(),
            decision_id=message.decision_id,
        )
    except (ValueError, OverflowError) as error:
        raise AnswerRejected(f"the issuer's answer cannot be read: {type(error).__name__}") from error


def _state(state: pb.RegisteredIntent.State.ValueType) -> IntentState:
    known = pb.RegisteredIntent.State.items()
    name = next((name for name, number in known if number == state), "")
    word = name.removeprefix("STATE_").lower()
    return IntentState(word) if word in set(IntentState) else IntentState.UNKNOWN
