"""Intents as messages, and what is asked of them as values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import FieldViolation, InvalidTokenRequest, IssuerError
from issuer.core.instants import microseconds, moment
from issuer.core.intent_redemption import RedemptionWanted
from issuer.core.intent_registration import MAX_PARAMETERS, IntentWanted, is_digest, parameters_digest
from issuer.core.intent_state import COLLECTION, Status, name_of
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType
from issuer.rpc.admin_messages import timestamp
from issuer.rpc.messages import token_request_from_proto
from issuer_api.v1 import intent_service_pb2 as pb
from issuer_api.v1.issuer_service_pb2 import Intent, IssueTokenRequest

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer.core.intent_state import RegisteredIntent

MAX_NAME: Final = 128
_SAID: Final = "intent."
"""Of an IssueTokenRequest, what is to be done is in a message of its own; of an intent it is not."""
_ANY: Final = "any"
"""Stands for what the intent says, while the rest is looked at."""
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z
_NANOS: Final = 1_000_000_000
_STATES: Final = {
    Status.REGISTERED: pb.RegisteredIntent.STATE_REGISTERED,
    Status.REDEEMED: pb.RegisteredIntent.STATE_REDEEMED,
    Status.CANCELLED: pb.RegisteredIntent.STATE_CANCELLED,
    Status.EXPIRED: pb.RegisteredIntent.STATE_EXPIRED,
}


def id_of(name: str, field: str = "name") -> str:
    """Return the id in a name.

    Raises:
        InvalidTokenRequest: It is no name.
    """
    collection, _, intent_id = name.partition("/")
    if collection != COLLECTION or not intent_id or len(name) > MAX_NAME:
        raise InvalidTokenRequest((FieldViolation(field, f"is required: {COLLECTION}/ and an id"),))
    return intent_id


def wanted_from_proto(message: pb.RegisterIntentRequest) -> IntentWanted:
    """Return what is to be registered.

    Raises:
        InvalidTokenRequest: With every violation that can be told at once.
    """
    token = IssueTokenRequest(
        audience=message.audience,
        scopes=message.scopes,
        application=message.application,
        ttl=message.ttl if message.HasField("ttl") else None,
        proof_binding=message.proof_binding if message.HasField("proof_binding") else None,
        intent=Intent(operation=message.operation, resource=message.resource, transaction=message.transaction),
    )
    faults: list[FieldViolation] = []
    try:
        request = replace(token_request_from_proto(token), grant_type=GrantType.INTENT)
    except InvalidTokenRequest as error:
        said = [FieldViolation(each.field.removeprefix(_SAID), each.description) for each in error.violations]
        raise InvalidTokenRequest(tuple(said)) from None
    consumer = _consumer(message.consumer, faults)
    parameters = _parameters(message, faults)
    begin = _moment(message, "not_before", faults)
    end = _moment(message, "expire_time", faults)
    if consumer is None or faults:
        raise InvalidTokenRequest(tuple(faults))
    return IntentWanted(request, consumer, parameters, begin, end, message.uses or 1, message.request_id)


def redemption_from_proto(message: pb.RedeemIntentRequest) -> RedemptionWanted:
    """Return what is asked for of an intent, whichever that is and whether there is one.

    Raises:
        InvalidTokenRequest: With every violation.
    """
    if message.parameters_digest and not is_digest(message.parameters_digest):
        text = "must be sha256: and 64 hexadecimal digits in lower case"
        raise InvalidTokenRequest((FieldViolation("parameters_digest", text),))
    token = IssueTokenRequest(
        audience=_ANY,
        scopes=message.scopes or [_ANY],
        ttl=message.ttl if message.HasField("ttl") else None,
        proof_binding=message.proof_binding if message.HasField("proof_binding") else None,
        allow_partial=message.allow_partial,
    )
    parsed = token_request_from_proto(token)
    scopes = tuple(message.scopes)
    return RedemptionWanted(
        scopes, parsed.ttl, parsed.bind_certificate, parsed.allow_partial, message.parameters_digest
    )


def intent_to_proto(intent: RegisteredIntent, now: datetime, *, revoked: bool) -> pb.RegisteredIntent:
    """Return an intent as it stands at ``now``."""
    registration = intent.registration
    status = intent.status_at(microseconds(now))
    is_dead = revoked and status is Status.REGISTERED
    return pb.RegisteredIntent(
        name=name_of(intent),
        state=pb.RegisteredIntent.STATE_REVOKED if is_dead else _STATES[status],
        registrar=registration.registrar,
        consumer=registration.consumer,
        audience=registration.audience,
        scopes=registration.scopes,
        application=registration.application,
        operation=registration.operation,
        resource=registration.resource,
        parameters_digest=registration.parameters,
        transaction=registration.transaction,
        not_before=timestamp(moment(registration.not_before)),
        expire_time=timestamp(moment(registration.expires_at)),
        uses=registration.uses,
        uses_left=intent.uses_left,
        max_ttl=Duration(seconds=registration.lifetime),
        bind_certificate=registration.bind,
        create_time=timestamp(moment(registration.created)),
        decision_id=registration.decision,
        redemptions=intent.decisions,
        end_time=timestamp(moment(intent.ended_at)) if intent.ended_at else None,
        ended_by=intent.ended_by,
        ended_reason=intent.ended_why,
    )


def _consumer(text: str, faults: list[FieldViolation]) -> SpiffeId | None:
    try:
        return SpiffeId.parse(text)
    except IssuerError as error:
        faults.append(FieldViolation("consumer", f"is required, an exact SPIFFE ID: {error.message}"))
        return None


def _parameters(message: pb.RegisterIntentRequest, faults: list[FieldViolation]) -> str:
    if message.WhichOneof("payload") != "parameters":
        return message.parameters_digest
    if len(message.parameters) > MAX_PARAMETERS:
        faults.append(FieldViolation("parameters", f"must be at most {MAX_PARAMETERS} bytes: send their digest"))
    return parameters_digest(message.parameters)


def _moment(message: pb.RegisterIntentRequest, field: str, faults: list[FieldViolation]) -> int | None:
    """Return a moment in whole microseconds, rounded down."""
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    time: Timestamp = getattr(message, field)
    if not (0 < time.seconds <= _LAST_SECOND and 0 <= time.nanos < _NANOS):
        faults.append(FieldViolation(field, "is no moment that can be"))
        return None
    return time.seconds * 1_000_000 + time.nanos // 1_000
