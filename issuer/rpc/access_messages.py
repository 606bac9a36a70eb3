"""Windows of access as messages, and what is asked of them as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from issuer.accessing import Start
from issuer.core.access_terms import approval_id
from issuer.core.access_window import COLLECTION, Status, name_of
from issuer.core.approval_state import COLLECTION as APPROVALS
from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import microseconds, moment
from issuer.core.token_request import GrantType
from issuer.rpc.admin_messages import timestamp
from issuer.rpc.messages import token_request_from_proto
from issuer_api.v1 import access_service_pb2 as pb
from issuer_api.v1.issuer_service_pb2 import Intent, IssueTokenRequest

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.access_window import AccessWindow
    from issuer.core.token_request import TokenRequest

MAX_NAME: Final = 128
_STATES: Final = {
    Status.OPEN: pb.AccessWindow.STATE_OPEN,
    Status.EXPIRED: pb.AccessWindow.STATE_EXPIRED,
    Status.SVID_EXPIRED: pb.AccessWindow.STATE_SVID_EXPIRED,
    Status.COMPLETED: pb.AccessWindow.STATE_COMPLETED,
    Status.ENDED: pb.AccessWindow.STATE_ENDED,
    Status.REFUSED: pb.AccessWindow.STATE_REFUSED,
    Status.REVOKED: pb.AccessWindow.STATE_REVOKED,
}


def id_of(name: str, field: str = "name") -> str:
    """Return the id in a name.

    Raises:
        InvalidTokenRequest: It is no name.
    """
    collection, _, window_id = name.partition("/")
    if collection != COLLECTION or not window_id or len(name) > MAX_NAME:
        raise InvalidTokenRequest((FieldViolation(field, f"must be {COLLECTION}/ and an id"),))
    return window_id


def start_from_proto(message: pb.StartAccessRequest) -> Start:
    """Return what a caller asks for.

    Raises:
        InvalidTokenRequest: With every violation, each naming its field as the .proto spells it.
    """
    asked = IssueTokenRequest(
        audience=message.audience,
        scopes=message.scopes,
        ttl=message.duration if message.HasField("duration") else None,
        application=message.application,
        proof_binding=message.proof_binding if message.HasField("proof_binding") else None,
        intent=message.intent if message.HasField("intent") else None,
    )
    try:
        request = token_request_from_proto(asked, GrantType.JIT)
    except InvalidTokenRequest as error:
        raise _of_duration(error) from None
    return Start(request, message.reason, message.request_id)


def _of_duration(error: InvalidTokenRequest) -> InvalidTokenRequest:
    """Return the refusal with the field by the name that it has here."""
    renamed = (
        FieldViolation("duration", each.description) if each.field == "ttl" else each for each in error.violations
    )
    return InvalidTokenRequest(tuple(renamed))


def request_under(window: AccessWindow, message: IssueTokenRequest) -> TokenRequest:
    """Return the request for a token under a window.

    Raises:
        InvalidTokenRequest: It cannot be read, or says something else than the window.
    """
    opening = window.opening
    request = token_request_from_proto(message)
    intent = Intent(**json.loads(opening.intent)) if opening.intent else Intent()
    faults = [
        FieldViolation(field, "is not that of the window of access")
        for field, same in (
            ("audience", request.audience == opening.audience),
            ("application", request.application in (None, opening.application)),
            ("intent", not message.HasField("intent") or message.intent == intent),
        )
        if not same
    ]
    if faults:
        raise InvalidTokenRequest(tuple(faults))
    own = IssueTokenRequest()
    own.CopyFrom(message)
    own.application = opening.application
    own.intent.CopyFrom(intent)
    if not opening.intent:
        own.ClearField("intent")
    return token_request_from_proto(own, GrantType.JIT)


def window_to_proto(window: AccessWindow, now: datetime, *, sees_all: bool = False) -> pb.AccessWindow:
    """Return a window as it stands at ``now``; to those who see all, with the rules by which it ended."""
    opening = window.opening
    status = window.status_at(microseconds(now))
    ended = window.closes_at if window.ended is None else window.ended_at
    approval = approval_id(window)
    return pb.AccessWindow(
        name=name_of(window),
        state=_STATES[status],
        caller=opening.caller,
        audience=opening.audience,
        application=opening.application,
        scopes=opening.scopes,
        intent=Intent(**json.loads(opening.intent)) if opening.intent else None,
        bind_certificate=opening.bind_certificate,
        reason=opening.why,
        create_time=timestamp(moment(opening.created)),
        expire_time=timestamp(moment(window.closes_at)),
        window_end_time=timestamp(moment(opening.until)),
        end_time=None if status is Status.OPEN else timestamp(moment(ended)),
        ended_by=window.ended_by,
        ended_reason=window.ended_why,
        ended_rules=window.ended_rules if sees_all else (),
        decision_id=opening.decision,
        policy_digest=opening.policy,
        approval_request=f"{APPROVALS}/{approval}" if approval else "",
    )
