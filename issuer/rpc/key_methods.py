"""The methods of AdminService that change the signing keys: no gRPC package, one short function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.rpc.key_messages import keys_to_proto
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.core.key_ring import KeyRing
    from issuer.ports import KeyAdmin
    from issuer.rpc.call import VerifiedCall


class KeyMethods:
    """What AdminService does about keys, for any transport.

    Args:
        keys: What does it.
        max_age: Seconds that a verifier may keep the key set.
    """

    def __init__(self, keys: KeyAdmin, max_age: int) -> None:
        self._keys = keys
        self._max_age = max_age

    async def list_keys(self, _message: pb.ListKeysRequest, _call: VerifiedCall) -> pb.ListKeysResponse:
        """List them."""
        return pb.ListKeysResponse(keys=self._told(await self._keys.listed()))

    async def prepare_key(self, _message: pb.PrepareKeyRequest, call: VerifiedCall) -> pb.PrepareKeyResponse:
        """Make the next one, and publish it."""
        ring = await self._keys.prepare(actor=str(call.caller.spiffe_id))
        call.log_fields["kid"] = ring.next.jwk.key_id if ring.next else None
        return pb.PrepareKeyResponse(keys=self._told(ring))

    async def activate_key(self, message: pb.ActivateKeyRequest, call: VerifiedCall) -> pb.ActivateKeyResponse:
        """Let the next one sign."""
        key_id = _named(message.key_id)
        call.log_fields.update(kid=key_id, force=message.force)
        ring = await self._keys.activate(key_id, force=message.force, actor=str(call.caller.spiffe_id))
        return pb.ActivateKeyResponse(keys=self._told(ring))

    async def remove_key(self, message: pb.RemoveKeyRequest, call: VerifiedCall) -> pb.RemoveKeyResponse:
        """Publish one no more."""
        key_id = _named(message.key_id)
        call.log_fields.update(kid=key_id, force=message.force)
        ring = await self._keys.remove(key_id, force=message.force, actor=str(call.caller.spiffe_id))
        return pb.RemoveKeyResponse(keys=self._told(ring))

    def _told(self, ring: KeyRing) -> list[pb.SigningKey]:
        return keys_to_proto(ring, self._max_age)


def _named(key_id: str) -> str:
    """Return a ``kid`` that may go into the log: one of ours has 43 characters of base64url."""
    if len(key_id) != 43 or not key_id.isascii() or not key_id.replace("-", "").replace("_", "").isalnum():  # noqa: PLR2004 - RFC 7638
        raise InvalidTokenRequest((FieldViolation("key_id", "must be the `kid` of a key"),))
    return key_id
