"""The methods of IssuerService: ``async (message, call) -> message``, one short function each, no gRPC package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import InvalidTokenRequest, IssuerError
from issuer.issuance import Wanted
from issuer.observing import Step
from issuer.rpc import messages
from issuer.rpc.status import status_from_error
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.issuance import Issuance, IssuedToken
    from issuer.ports import Signer
    from issuer.rpc.call import VerifiedCall


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
        """Decide, mint, sign, record, answer."""
        call.asked.trace.at(Step.PARSE_REQUEST)
        [outcome] = await self._issuance.issue_tokens(call.asked, [_wanted(message)], call.log_fields)
        if isinstance(outcome, Exception):
            raise outcome
        return messages.issued_token_to_proto(outcome)

    async def batch_issue_tokens(
        self, message: pb.BatchIssueTokensRequest, call: VerifiedCall
    ) -> pb.BatchIssueTokensResponse:
        """Answer each item as IssueToken would have; a refused item does not touch the others."""
        call.asked.trace.at(Step.PARSE_REQUEST)
        wanted = map(_wanted, messages.batch_items(message))
        outcomes = await self._issuance.issue_tokens(call.asked, wanted, call.log_fields)
        results = [_batch_result(outcome, call) for outcome in outcomes]
        call.log_fields.clear()
        call.log_fields["caller"] = str(call.caller.spiffe_id)
        call.log_fields["items"] = len(results)
        call.log_fields["items_refused"] = sum(result.HasField("error") for result in results)
        return pb.BatchIssueTokensResponse(results=results)

    async def list_access(self, _message: pb.ListAccessRequest, call: VerifiedCall) -> pb.ListAccessResponse:
        """List what policy would grant this caller now."""
        accesses = await self._issuance.list_access(call.asked)
        return messages.accesses_to_proto(accesses)

    async def get_key_set(self, _message: pb.GetKeySetRequest, _call: VerifiedCall) -> pb.GetKeySetResponse:
        """Return the public keys."""
        jwks = self._signer.public_keys().jwks.decode()
        return pb.GetKeySetResponse(jwks=jwks, max_age=self._key_set_max_age)


def _wanted(message: pb.IssueTokenRequest) -> Wanted:
    try:
        return Wanted(messages.token_request_from_proto(message), validate_only=message.validate_only)
    except InvalidTokenRequest as error:
        return Wanted(error)


def _batch_result(outcome: IssuedToken | Exception, call: VerifiedCall) -> pb.BatchIssueTokensResult:
    if isinstance(outcome, IssuerError):
        return pb.BatchIssueTokensResult(error=status_from_error(outcome, call.request_id))
    if isinstance(outcome, Exception):
        raise outcome
    return pb.BatchIssueTokensResult(response=messages.issued_token_to_proto(outcome))
