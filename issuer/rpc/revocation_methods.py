"""The methods of AdminService that revoke: no gRPC package, one short function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import microseconds
from issuer.rpc.revocation_messages import page_to_proto, revocation_to_proto, revoke_from_proto, revoked_to_proto
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.revoking import Revoking
    from issuer.rpc.call import VerifiedCall

MAX_PAGE: Final = 1_000
USUAL_PAGE: Final = 50


class RevocationMethods:
    """What AdminService does about revocations, for any transport.

    Args:
        revoking: What does it.
    """

    def __init__(self, revoking: Revoking) -> None:
        self._revoking = revoking

    async def revoke(self, message: pb.RevokeRequest, call: VerifiedCall) -> pb.RevokeResponse:
        """Revoke what an operator names, or tell what that would hit."""
        wanted = revoke_from_proto(message)
        revocation, hits = await self._revoking.revoke(wanted, call.asked)
        call.log_fields.update(
            revocation=revocation.id,
            selects=list(wanted.selector.named),
            stops_issuance=revocation.stops_issuance,
            tokens_hit=hits.tokens,
            identities_hit=hits.identities,
            dry_run=wanted.dry_run,
        )
        return revoked_to_proto(revocation, hits)

    async def list_revocations(
        self, message: pb.ListRevocationsRequest, call: VerifiedCall
    ) -> pb.ListRevocationsResponse:
        """List revocations, the newest first."""
        size = message.page_size or USUAL_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidTokenRequest((FieldViolation("page_size", f"must be 1 to {MAX_PAGE}"),))
        stopping = microseconds(call.now) if message.stopping else None
        found = await self._revoking.list(size, _id(message.page_token), stopping=stopping)
        return page_to_proto(found, next_page_token=found[-1].id if len(found) == size else "")

    async def lift_revocation(self, message: pb.LiftRevocationRequest, call: VerifiedCall) -> pb.LiftRevocationResponse:
        """Let tokens be issued again."""
        lifted = await self._revoking.lift(message.revocation_id, call.asked)
        call.log_fields["revocation"] = lifted.id
        return pb.LiftRevocationResponse(revocation=revocation_to_proto(lifted))


def _id(page_token: str) -> str | None:
    if not page_token:
        return None
    try:
        return str(UUID(page_token))
    except ValueError:
        raise InvalidTokenRequest((FieldViolation("page_token", "is not the one of a page before"),)) from None
