"""Signing keys as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.core.key_ring import FormerKey, KeyRing, NextKey


def keys_to_proto(ring: KeyRing, max_age: int) -> list[pb.SigningKey]:
    """Return the next key, the active one and the former ones.

    Args:
        ring: All keys.
        max_age: Seconds that a verifier may keep the key set.
    """
    active = pb.SigningKey(
        key_id=ring.active.key_id, state=pb.KEY_STATE_ACTIVE, activate_time=_time(ring.since or None)
    )
    coming = [_next(ring.next, ring.ready_at(max_age))] if ring.next else []
    return [*coming, active, *map(_former, ring.former)]


def _next(key: NextKey, ready: int | None) -> pb.SigningKey:
    return pb.SigningKey(
        key_id=key.jwk.key_id, state=pb.KEY_STATE_NEXT, publish_time=_time(key.published), ready_time=_time(ready)
    )


def _former(key: FormerKey) -> pb.SigningKey:
    return pb.SigningKey(
        key_id=key.jwk.key_id,
        state=pb.KEY_STATE_RETIRED if key.gone is None else pb.KEY_STATE_GONE,
        activate_time=_time(key.since or None),
        retire_time=_time(key.retired),
        over_time=_time(key.over),
        remove_time=_time(key.gone),
    )


def _time(seconds: int | None) -> Timestamp | None:
    return None if seconds is None else Timestamp(seconds=seconds)
