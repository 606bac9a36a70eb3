"""Revocations as messages, and what is asked of them as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import moment
from issuer.core.patterns import PatternError, parse_pattern
from issuer.core.revocation import NAMES, Selector
from issuer.revoking import Revoke
from issuer.rpc.admin_messages import timestamp
from issuer.rpc.decision_messages import moment_from_proto
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.timestamp_pb2 import Timestamp

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.recorded_tokens import Hits
    from issuer.core.revocation import Revocation

MAX_TEXT = 2_048
"""Bytes of one text of a selector: as long as a SPIFFE ID may be (SPIFFE-ID section 2.3)."""
_FIELDS = {"token": "token_id", "key": "key_id"}
"""The fields of a message that are called otherwise than those of a selector."""


def revoke_from_proto(message: pb.RevokeRequest) -> Revoke:
    """Return what is asked for.

    Raises:
        InvalidTokenRequest: A time, a text or a pattern cannot be one.
    """
    return Revoke(
        selector=selector_from_proto(message.selector),
        why=message.reason,
        stops_issuance=message.stops_issuance if message.HasField("stops_issuance") else None,
        until=moment_from_proto("stop_until", message.stop_until) if message.HasField("stop_until") else None,
        dry_run=message.dry_run,
        request=message.request_id,
    )


def selector_from_proto(message: pb.TokenSelector) -> Selector:
    """Return a selector; whether it makes sense is not looked at.

    Raises:
        InvalidTokenRequest: A time, a text or a pattern cannot be one.
    """
    texts = {name: _text(message, _FIELDS.get(name, name)) for name in NAMES if name != "workload"}
    times = {
        name: moment_from_proto(f"selector.{name}", getattr(message, name))
        for name in ("issued_from", "issued_until")
        if message.HasField(name)
    }
    return Selector(workload=_workload(message), everything=message.everything, **texts, **times)  # type: ignore[arg-type]


def _text(message: pb.TokenSelector, field: str) -> str | None:
    if not message.HasField(field):  # type: ignore[arg-type] # one of its fields
        return None
    value: str = getattr(message, field)
    if len(value) > MAX_TEXT:
        raise InvalidTokenRequest((FieldViolation(f"selector.{field}", f"is longer than {MAX_TEXT} characters"),))
    return value


def _workload(message: pb.TokenSelector) -> WorkloadPattern | None:
    text = _text(message, "workload")
    try:
        return None if text is None else parse_pattern(text)
    except PatternError as error:
        raise InvalidTokenRequest((FieldViolation("selector.workload", error.message),)) from None


def revocation_to_proto(revocation: Revocation) -> pb.Revocation:
    """Return a revocation."""
    lifted = revocation.lifted
    return pb.Revocation(
        revocation_id=revocation.id,
        selector=_selector_to_proto(revocation.selector),
        make_time=timestamp(moment(revocation.time)),
        actor=revocation.actor,
        reason=revocation.why,
        stops_issuance=revocation.stops_issuance,
        stop_until=_optional_time(revocation.until),
        tokens_hit=revocation.tokens_hit,
        identities_hit=revocation.identities_hit,
        lift_time=None if lifted is None else timestamp(moment(lifted.time)),
        lifted_by="" if lifted is None else lifted.actor,
    )


def revoked_to_proto(revocation: Revocation, hits: Hits) -> pb.RevokeResponse:
    """Return the answer of Revoke."""
    return pb.RevokeResponse(
        revocation=revocation_to_proto(revocation),
        tokens=[
            pb.HitToken(
                token_id=token.token_id,
                caller=token.caller,
                audience=token.audience,
                expire_time=timestamp(moment(token.expires_at * 1_000_000)),
            )
            for token in hits.newest
        ],
        identities=[pb.HitIdentity(caller=caller, tokens=count) for caller, count in hits.most],
    )


def page_to_proto(found: Iterable[Revocation], *, next_page_token: str) -> pb.ListRevocationsResponse:
    """Return the answer of ListRevocations."""
    return pb.ListRevocationsResponse(revocations=map(revocation_to_proto, found), next_page_token=next_page_token)


def _selector_to_proto(selector: Selector) -> pb.TokenSelector:
    return pb.TokenSelector(
        token_id=selector.token,
        basis=selector.basis,
        workload=None if selector.workload is None else selector.workload.text,
        application=selector.application,
        audience=selector.audience,
        rule=selector.rule,
        policy=selector.policy,
        key_id=selector.key,
        everything=selector.everything,
        issued_from=_optional_time(selector.issued_from),
        issued_until=_optional_time(selector.issued_until),
    )


def _optional_time(time: int | None) -> Timestamp | None:
    return None if time is None else timestamp(moment(time))
