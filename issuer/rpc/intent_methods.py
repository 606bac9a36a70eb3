"""The methods of IntentService: no gRPC package, one short function each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.rpc.intent_messages import id_of, intent_to_proto, redemption_from_proto, wanted_from_proto
from issuer.rpc.messages import issued_token_to_proto
from issuer.rpc.rpc_rules import CallerKind
from issuer_api.v1 import intent_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.intent_state import RegisteredIntent
    from issuer.redeeming import Redeeming
    from issuer.registering import Registering
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.roles import Roles

MAX_PAGE: Final = 200
USUAL_PAGE: Final = 50


class IntentMethods:
    """What IntentService does, for any transport.

    Args:
        registering: Takes intents.
        redeeming: Redeems them.
        roles: Who may see every intent, and take back what is not theirs.
    """

    def __init__(self, *, registering: Registering, redeeming: Redeeming, roles: Roles) -> None:
        self._registering = registering
        self._redeeming = redeeming
        self._roles = roles

    async def register(self, message: pb.RegisterIntentRequest, call: VerifiedCall) -> pb.RegisterIntentResponse:
        """Register an intent."""
        intent = await self._registering.register(call.asked, wanted_from_proto(message), call.log_fields)
        call.log_fields["intent"] = intent.id
        return pb.RegisterIntentResponse(intent=self._told(intent, call))

    async def get(self, message: pb.GetIntentRequest, call: VerifiedCall) -> pb.GetIntentResponse:
        """Return an intent."""
        intent = self._registering.get(call.caller.spiffe_id, id_of(message.name), sees_all=self._sees_all(call))
        return pb.GetIntentResponse(intent=self._told(intent, call))

    async def list(self, message: pb.ListIntentsRequest, call: VerifiedCall) -> pb.ListIntentsResponse:
        """List intents, the newest first."""
        size = message.page_size or USUAL_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidTokenRequest((FieldViolation("page_size", f"must be 1 to {MAX_PAGE}"),))
        before = id_of(message.page_token, "page_token") if message.page_token else None
        later = (each for each in self._view(message.view, call) if before is None or each.id < before)
        told = (self._told(each, call) for each in later)
        page = list(islice((each for each in told if message.state in (0, each.state)), size + 1))
        return pb.ListIntentsResponse(
            intents=page[:size], next_page_token=page[size - 1].name if len(page) > size else ""
        )

    async def cancel(self, message: pb.CancelIntentRequest, call: VerifiedCall) -> pb.CancelIntentResponse:
        """Take an intent back."""
        call.log_fields["intent"] = intent_id = id_of(message.name)
        intent = await self._registering.cancel(
            call.asked,
            intent_id,
            message.reason,
            operator=self._roles.has(call.caller, CallerKind.OPERATOR),
            sees_all=self._sees_all(call),
        )
        return pb.CancelIntentResponse(intent=self._told(intent, call))

    async def redeem(self, message: pb.RedeemIntentRequest, call: VerifiedCall) -> pb.RedeemIntentResponse:
        """Redeem an intent for its token."""
        call.log_fields["intent"] = intent_id = id_of(message.name)
        wanted = redemption_from_proto(message)
        issued = await self._redeeming.redeem(call.asked, intent_id, wanted, call.log_fields)
        intent = self._registering.get(call.caller.spiffe_id, intent_id, sees_all=False)
        return pb.RedeemIntentResponse(token=issued_token_to_proto(issued), intent=self._told(intent, call))

    def _view(self, view: pb.ListIntentsRequest.View.ValueType, call: VerifiedCall) -> Iterator[RegisteredIntent]:
        if view == pb.ListIntentsRequest.VIEW_ALL:
            self._roles.check(call.caller, CallerKind.VIEWER)
            return self._registering.all()
        return self._registering.of(call.caller.spiffe_id)

    def _told(self, intent: RegisteredIntent, call: VerifiedCall) -> pb.RegisteredIntent:
        return intent_to_proto(intent, call.now, revoked=self._registering.is_revoked(intent))

    def _sees_all(self, call: VerifiedCall) -> bool:
        return self._roles.has(call.caller, CallerKind.VIEWER)
