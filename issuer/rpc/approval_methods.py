"""The methods of ApprovalService: no gRPC package, one short function each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from issuer.approving import Answer
from issuer.core.approval_state import Status, StepKind, name_of
from issuer.core.approvers import scopes_of
from issuer.core.errors import AdminRefused, FieldViolation, InvalidTokenRequest, Reason
from issuer.core.instants import microseconds
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Selector
from issuer.core.stated_reason import check_why
from issuer.rpc.approval_messages import approve_from_proto, got_to_proto, id_of, request_to_proto
from issuer.rpc.messages import token_request_from_proto
from issuer.rpc.rpc_rules import CallerKind
from issuer_api.v1 import approval_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from issuer.approving import Approving
    from issuer.core.approval_state import ApprovalRequest
    from issuer.ports import TokenBook
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.roles import Roles

MAX_PAGE: Final = 200
USUAL_PAGE: Final = 50
MAX_WAITS: Final = 16
"""So many streams one SPIFFE ID may hold open: it may wait for several approvals."""
SHOWN_TOKENS: Final = 10


class ApprovalMethods:
    """What ApprovalService does, for any transport.

    Args:
        approving: What takes questions and answers.
        tokens: What identities hold.
        roles: Who may see every request.
    """

    def __init__(self, *, approving: Approving, tokens: TokenBook, roles: Roles) -> None:
        self._approving = approving
        self._tokens = tokens
        self._roles = roles
        self._waits: Counter[str] = Counter()

    async def create(
        self, message: pb.CreateApprovalRequestRequest, call: VerifiedCall
    ) -> pb.CreateApprovalRequestResponse:
        """Ask for an approval."""
        request = await self._approving.ask(call.asked, token_request_from_proto(message.token), message.reason)
        call.log_fields["approval"] = name_of(request)
        return pb.CreateApprovalRequestResponse(approval_request=request_to_proto(request, call.now))

    async def get(self, message: pb.GetApprovalRequestRequest, call: VerifiedCall) -> pb.GetApprovalRequestResponse:
        """Return a request; to those who decide, with what the identity that asked holds."""
        request = self._find(message.name, call)
        question = request.question
        if not (self._sees_all(call) or scopes_of(question.needs, call.caller.spiffe_id)):
            return got_to_proto(request, call.now, 0, [])
        exactly = Selector(workload=parse_pattern(question.asked.caller))
        hits = await self._tokens.hits(exactly, int(call.now.timestamp()), SHOWN_TOKENS)
        return got_to_proto(request, call.now, hits.tokens, list(hits.newest))

    async def wait(
        self, message: pb.WaitApprovalRequestRequest, call: VerifiedCall
    ) -> AsyncIterator[pb.WaitApprovalRequestResponse | None]:
        """Tell a request whenever something happened to it, until it is decided; ``None`` where nothing did."""
        caller = str(call.caller.spiffe_id)
        if self._waits[caller] >= MAX_WAITS:
            raise AdminRefused(Reason.TOO_MANY_WATCHES, f"{MAX_WAITS} streams of this caller are open already")
        self._waits[caller] += 1
        try:
            changes = self._approving.changes(call.caller, id_of(message.name), sees_all=self._sees_all(call))
            async for request, now in changes:
                yield (
                    None
                    if request is None
                    else pb.WaitApprovalRequestResponse(approval_request=request_to_proto(request, now))
                )
                if request is not None and request.status_at(microseconds(now)) is not Status.PENDING:
                    return
        finally:
            self._waits[caller] -= 1

    async def list(
        self, message: pb.ListApprovalRequestsRequest, call: VerifiedCall
    ) -> pb.ListApprovalRequestsResponse:
        """List requests, the newest first."""
        size = message.page_size or USUAL_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidTokenRequest((FieldViolation("page_size", f"must be 1 to {MAX_PAGE}"),))
        before = id_of(message.page_token) if message.page_token else None
        found = [each for each in self._view(message.view, call) if before is None or each.id < before]
        page = found[:size]
        return pb.ListApprovalRequestsResponse(
            approval_requests=[request_to_proto(each, call.now) for each in page],
            next_page_token=name_of(page[-1]) if len(found) > size else "",
        )

    async def approve(self, message: pb.ApproveRequestRequest, call: VerifiedCall) -> pb.ApproveRequestResponse:
        """Approve."""
        known = self._find(message.name, call)
        if message.digest and message.digest != known.question.asked.digest:
            raise InvalidTokenRequest((FieldViolation("digest", "is not that of this request"),))
        request = await self._answer(message.name, approve_from_proto(message), call)
        return pb.ApproveRequestResponse(approval_request=request_to_proto(request, call.now))

    async def deny(self, message: pb.DenyRequestRequest, call: VerifiedCall) -> pb.DenyRequestResponse:
        """Deny, or take back what was approved."""
        request = await self._answer(message.name, Answer(StepKind.DENY, why=message.reason), call)
        return pb.DenyRequestResponse(approval_request=request_to_proto(request, call.now))

    async def cancel(self, message: pb.CancelRequestRequest, call: VerifiedCall) -> pb.CancelRequestResponse:
        """Take a request back."""
        request = await self._answer(message.name, Answer(StepKind.CANCEL), call)
        return pb.CancelRequestResponse(approval_request=request_to_proto(request, call.now))

    async def _answer(self, name: str, answer: Answer, call: VerifiedCall) -> ApprovalRequest:
        check_why(answer.why)
        request_id = id_of(name)
        call.log_fields.update(approval=name, answer=answer.kind.value)
        return await self._approving.answer(call.asked, request_id, answer, sees_all=self._sees_all(call))

    def _find(self, name: str, call: VerifiedCall) -> ApprovalRequest:
        return self._approving.get(call.caller, id_of(name), sees_all=self._sees_all(call))

    def _view(
        self, view: pb.ListApprovalRequestsRequest.View.ValueType, call: VerifiedCall
    ) -> Iterator[ApprovalRequest]:
        if view == pb.ListApprovalRequestsRequest.VIEW_TO_DECIDE:
            return self._approving.list_to_decide(call.caller, call.now)
        if view == pb.ListApprovalRequestsRequest.VIEW_ALL:
            self._roles.check(call.caller, CallerKind.VIEWER)
            return self._approving.list_all()
        return self._approving.list_mine(call.caller)

    def _sees_all(self, call: VerifiedCall) -> bool:
        return self._roles.has(call.caller, CallerKind.VIEWER) or self._approving.is_gateway(call.caller)
