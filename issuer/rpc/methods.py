"""The methods of IssuerService: ``async (message, call) -> message``, one short function each, no gRPC package."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import IssuerError
from issuer.rpc import messages
from issuer.rpc.status import status_from_error
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.issuance import Issuance
    from issuer.ports import Signer
    from issuer.rpc.call import VerifiedCall

_ITEMS_BETWEEN_TURNS = 16
"""A batch gives other calls a turn of the event loop after so many items: at about 0.1 ms each, under 2 ms."""


class IssuerMethods:
    """What IssuerService does, for any transport.

    Args:
        issuance: The request path.
        signer: Whose public keys GetKeySet returns.
        key_set_max_age: How long a verifier may keep the key set.
    """

    def __init__(self, *, issuance: Issuance, signer: Signer, key_set_max_age: timedelta) -> None:
        self._issuance = issuance
        self._signer = signer
        self._key_set_max_age = Duration(seconds=int(key_set_max_age.total_seconds()))

    async def issue_token(self, message: pb.IssueTokenRequest, call: VerifiedCall) -> pb.IssueTokenResponse:
        """Decide, mint, sign, answer."""
        request = messages.token_request_from_proto(message)
        issued = await self._issuance.issue_token(
            call.caller, request, now=call.now, validate_only=message.validate_only, log_fields=call.log_fields
        )
        return messages.issued_token_to_proto(issued)

    async def batch_issue_tokens(
        self, message: pb.BatchIssueTokensRequest, call: VerifiedCall
    ) -> pb.BatchIssueTokensResponse:
        """Answer each item as IssueToken would have; a refused item does not touch the others."""
        results = []
        for position, item in enumerate(messages.batch_items(message)):
            if position % _ITEMS_BETWEEN_TURNS == _ITEMS_BETWEEN_TURNS - 1:
                await asyncio.sleep(0)
            results.append(await self._batch_item(item, call))
        call.log_fields.clear()
        call.log_fields["items"] = len(results)
        call.log_fields["items_refused"] = sum(result.HasField("error") for result in results)
        return pb.BatchIssueTokensResponse(results=results)

    async def _batch_item(self, item: pb.IssueTokenRequest, call: VerifiedCall) -> pb.BatchIssueTokensResult:
        try:
            return pb.BatchIssueTokensResult(response=await self.issue_token(item, call))
        except IssuerError as error:
            return pb.BatchIssueTokensResult(error=status_from_error(error, call.request_id))

    async def list_access(self, _message: pb.ListAccessRequest, call: VerifiedCall) -> pb.ListAccessResponse:
        """List what policy would grant this caller now."""
        accesses = await self._issuance.list_access(call.caller, now=call.now)
        return messages.accesses_to_proto(accesses)

    async def get_key_set(self, _message: pb.GetKeySetRequest, _call: VerifiedCall) -> pb.GetKeySetResponse:
        """Return the public keys."""
        jwks = self._signer.public_keys().jwks.decode()
        return pb.GetKeySetResponse(jwks=jwks, max_age=self._key_set_max_age)
