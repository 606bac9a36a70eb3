"""The methods of IssuerService: ``async (message, call) -> message``, one short function each, no gRPC package."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import AdminRefused, InvalidTokenRequest, IssuerError, PolicyDenied, Reason
from issuer.core.token_request import GrantType
from issuer.issuance import Wanted
from issuer.observing import Step
from issuer.rpc import access_messages, exchange_messages, messages
from issuer.rpc.status import status_from_error
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from issuer.accessing import Accessing
    from issuer.approving import Approving
    from issuer.core.origin import Origin
    from issuer.exchanging import Exchanging
    from issuer.introspection import Introspection
    from issuer.issuance import Issuance, IssuedToken
    from issuer.ports import Signer
    from issuer.revocation_feed import RevocationFeed
    from issuer.revoking import Revoking
    from issuer.rpc.call import VerifiedCall


Outcome = TypeVar("Outcome")


class IssuerMethods:
    """What IssuerService does, for any transport.

    Args:
        issuance: The request path.
        exchanging: What comes before it for a token on behalf of another.
        approving: Asks for approvals.
        accessing: Knows the windows of access.
        signer: Whose public keys GetKeySet returns.
        key_set_max_age: How long a verifier may keep the key set.
        introspection: Tells whether tokens are good.
        revoking: Revokes them.
        feed: Tells which are dead.

    Attributes:
        issuance: For who answers many calls at once.
    """

    def __init__(
        self,
        *,
        issuance: Issuance,
        exchanging: Exchanging,
        approving: Approving,
        accessing: Accessing,
        signer: Signer,
        key_set_max_age: timedelta,
        introspection: Introspection,
        revoking: Revoking,
        feed: RevocationFeed,
    ) -> None:
        self.issuance = issuance
        self._exchanging = exchanging
        self._approving = approving
        self._accessing = accessing
        self._signer = signer
        self._introspection = introspection
        self._revoking = revoking
        self._feed = feed
        self._key_set_max_age = Duration(seconds=int(key_set_max_age.total_seconds()))

    async def issue_token(self, message: pb.IssueTokenRequest, call: VerifiedCall) -> pb.IssueTokenResponse:
        """Decide, mint, sign, record, answer."""
        call.asked.trace.at(Step.PARSE_REQUEST)
        wanted = await self._wanted(message, call)
        [outcome] = await self.issuance.issue_tokens(call.asked, [wanted], call.log_fields)
        if isinstance(outcome, Exception):
            raise await self.with_approval(outcome, message, call)
        return messages.issued_token_to_proto(outcome)

    async def batch_issue_tokens(
        self, message: pb.BatchIssueTokensRequest, call: VerifiedCall
    ) -> pb.BatchIssueTokensResponse:
        """Answer each item as IssueToken would have; a refused item does not touch the others."""
        call.asked.trace.at(Step.PARSE_REQUEST)
        items = messages.batch_items(message)
        wanted = [await self._wanted(item, call) for item in items]
        outcomes = await self.issuance.issue_tokens(call.asked, wanted, None)
        response = pb.BatchIssueTokensResponse()
        for item, outcome in zip(items, outcomes, strict=True):
            _fill_in_result(response.results.add(), await self.with_approval(outcome, item, call), call)
        call.log_fields["items"] = len(outcomes)
        call.log_fields["items_refused"] = sum(result.HasField("error") for result in response.results)
        return response

    async def exchange_token(self, message: pb.ExchangeTokenRequest, call: VerifiedCall) -> pb.ExchangeTokenResponse:
        """Verify the subject token, then decide, mint, sign, record, answer."""
        call.asked.trace.at(Step.PARSE_REQUEST)
        presented = exchange_messages.presented_from_proto(message)
        issued, subject = await self._exchanging.exchange(call.asked, presented, call.log_fields)
        return pb.ExchangeTokenResponse(issued=messages.issued_token_to_proto(issued), subject=subject)

    async def _wanted(self, message: pb.IssueTokenRequest, call: VerifiedCall) -> Wanted:
        try:
            if message.access:
                return await self._wanted_under_access(message, call)
            return plainly_wanted(message)
        except InvalidTokenRequest as error:
            return Wanted(error)

    async def _wanted_under_access(self, message: pb.IssueTokenRequest, call: VerifiedCall) -> Wanted:
        window_id = access_messages.id_of(message.access, "access")
        try:
            window = await self._accessing.seen(call.asked, window_id)
        except AdminRefused as refused:  # recorded like any other refusal of a token
            return Wanted(messages.token_request_from_proto(message, GrantType.JIT), origin=partial(_refused, refused))
        return Wanted(
            access_messages.request_under(window, message),
            validate_only=message.validate_only,
            origin=partial(self._accessing.origin, call.asked, window_id),
            approvals=partial(self._accessing.approvals, call.asked, window_id),
        )

    async def with_approval(
        self, outcome: Outcome, message: pb.IssueTokenRequest, call: VerifiedCall
    ) -> Outcome | IssuerError:
        """Return what is told; of a denial for want of an approval, with the request for one, asked for if wanted."""
        if not isinstance(outcome, PolicyDenied) or outcome.reason is not Reason.APPROVAL_REQUIRED or message.access:
            return outcome  # a window of access that lacks an approval now is ended, not approved anew
        request = messages.token_request_from_proto(message)
        try:
            if message.request_approval and not message.validate_only:
                outcome.approval = await self._approving.ask(call.asked, request, message.approval_reason)
            else:
                outcome.approval = self._approving.find(call.caller, request, call.now)
        except IssuerError as error:
            return error
        return outcome

    async def list_access(self, _message: pb.ListAccessRequest, call: VerifiedCall) -> pb.ListAccessResponse:
        """List what policy would grant this caller now."""
        accesses = await self.issuance.list_access(call.asked)
        return messages.accesses_to_proto(accesses)

    async def get_key_set(self, _message: pb.GetKeySetRequest, _call: VerifiedCall) -> pb.GetKeySetResponse:
        """Return the public keys."""
        jwks = self._signer.public_keys().jwks.decode()
        return pb.GetKeySetResponse(jwks=jwks, max_age=self._key_set_max_age)

    async def revoke_token(self, message: pb.RevokeTokenRequest, call: VerifiedCall) -> pb.RevokeTokenResponse:
        """Revoke a token of the caller; whatever came of it, the answer is the same."""
        token_id = messages.named_token(message, self._introspection)
        if token_id is not None:
            call.log_fields["revoked"] = await self._revoking.revoke_own(token_id, call.asked)
            call.log_fields["token_id"] = token_id
        return pb.RevokeTokenResponse()

    async def introspect_token(
        self, message: pb.IntrospectTokenRequest, call: VerifiedCall
    ) -> pb.IntrospectTokenResponse:
        """Tell a server whether a token is good now."""
        messages.check_token_text(message.token)
        token, why_not = await self._introspection.introspect(message.token, call.asked)
        call.log_fields["active"] = token is not None
        if token is None:
            call.log_fields["inactive"] = why_not
            return pb.IntrospectTokenResponse(active=False)
        call.log_fields["token_id"] = token.token_id
        return messages.introspected_to_proto(token)

    async def watch_revocations(
        self, message: pb.WatchRevocationsRequest, call: VerifiedCall
    ) -> AsyncIterator[pb.WatchRevocationsResponse | None]:
        """Tell a server which tokens are dead, and which die."""
        async with aclosing(self._feed.follow(call.asked, messages.position_from_proto(message))) as all_:
            async for news in all_:
                if news is not None and news.beginning is not None:
                    call.log_fields["resumed"] = news.beginning.resumed
                yield None if news is None else messages.news_to_proto(news)


def plainly_wanted(message: pb.IssueTokenRequest) -> Wanted:
    """Return what a message asks for that names no window of access.

    Raises:
        InvalidTokenRequest: It cannot be read.
    """
    return Wanted(messages.token_request_from_proto(message), validate_only=message.validate_only)


def _refused(refused: AdminRefused) -> Origin:
    raise refused


def _fill_in_result(result: pb.BatchIssueTokensResult, outcome: IssuedToken | Exception, call: VerifiedCall) -> None:
    if isinstance(outcome, IssuerError):
        result.error.CopyFrom(status_from_error(outcome, call.request_id))
    elif isinstance(outcome, Exception):
        raise outcome
    else:
        messages.fill_in_issued_token(result.response, outcome)
