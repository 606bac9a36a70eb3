"""The methods of AccessService: no gRPC package, one short function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.access_end import basis_of
from issuer.core.access_window import name_of
from issuer.core.errors import FieldViolation, InvalidTokenRequest, PolicyDenied, Reason
from issuer.core.instants import microseconds
from issuer.core.revocation import Selector
from issuer.rpc.access_messages import id_of, start_from_proto, window_to_proto
from issuer.rpc.rpc_rules import CallerKind
from issuer_api.v1 import access_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.accessing import Accessing, Start
    from issuer.approving import Approving
    from issuer.core.access_window import AccessWindow
    from issuer.ports import TokenBook
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.roles import Roles

MAX_PAGE: Final = 200
USUAL_PAGE: Final = 50


class AccessMethods:
    """What AccessService does, for any transport.

    Args:
        accessing: Opens and ends windows.
        approving: Asks for approvals.
        tokens: What windows led to.
        roles: Who may see every window.
    """

    def __init__(self, *, accessing: Accessing, approving: Approving, tokens: TokenBook, roles: Roles) -> None:
        self._accessing = accessing
        self._approving = approving
        self._tokens = tokens
        self._roles = roles

    async def start(self, message: pb.StartAccessRequest, call: VerifiedCall) -> pb.StartAccessResponse:
        """Open a window."""
        start = start_from_proto(message)
        try:
            window = await self._accessing.start(call.asked, start, call.log_fields)
        except PolicyDenied as denied:
            if denied.reason is Reason.APPROVAL_REQUIRED:
                await self._name_approval(denied, start, call, ask=message.request_approval)
            raise
        call.log_fields["access"] = name_of(window)
        return pb.StartAccessResponse(access_window=window_to_proto(window, call.now))

    async def _name_approval(self, denied: PolicyDenied, start: Start, call: VerifiedCall, *, ask: bool) -> None:
        if ask:
            denied.approval = await self._approving.ask(call.asked, start.request, start.why)
        else:
            denied.approval = self._approving.find(call.caller, start.request, call.now)

    async def complete(self, message: pb.CompleteAccessRequest, call: VerifiedCall) -> pb.CompleteAccessResponse:
        """End a window of the caller."""
        window = await self._accessing.complete(call.asked, id_of(message.name))
        call.log_fields["access"] = message.name
        return pb.CompleteAccessResponse(access_window=window_to_proto(window, call.now))

    async def get(self, message: pb.GetAccessWindowRequest, call: VerifiedCall) -> pb.GetAccessWindowResponse:
        """Return a window; to viewers with how many tokens of it are alive."""
        sees_all = self._roles.has(call.caller, CallerKind.VIEWER)
        window = await self._accessing.find(call.asked, id_of(message.name), sees_all=sees_all)
        found = window_to_proto(window, call.now, sees_all=sees_all)
        if not sees_all:
            return pb.GetAccessWindowResponse(access_window=found)
        hits = await self._tokens.hits(Selector(basis=basis_of(window.id)), int(call.now.timestamp()), 0)
        return pb.GetAccessWindowResponse(access_window=found, living_tokens=hits.tokens)

    async def list(self, message: pb.ListAccessWindowsRequest, call: VerifiedCall) -> pb.ListAccessWindowsResponse:
        """List windows, the newest first."""
        size = message.page_size or USUAL_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidTokenRequest((FieldViolation("page_size", f"must be 1 to {MAX_PAGE}"),))
        before = id_of(message.page_token, "page_token") if message.page_token else None
        time = microseconds(call.now)
        found = [
            each
            for each in self._view(message.view, call)
            if (before is None or each.id < before) and (not message.open_only or each.is_open(time))
        ]
        page = found[:size]
        sees_all = self._roles.has(call.caller, CallerKind.VIEWER)
        return pb.ListAccessWindowsResponse(
            access_windows=[window_to_proto(each, call.now, sees_all=sees_all) for each in page],
            next_page_token=name_of(page[-1]) if len(found) > size else "",
        )

    async def end(self, message: pb.EndAccessRequest, call: VerifiedCall) -> pb.EndAccessResponse:
        """End anybody's window."""
        window = await self._accessing.end(call.asked, id_of(message.name), message.reason)
        call.log_fields["access"] = message.name
        return pb.EndAccessResponse(access_window=window_to_proto(window, call.now, sees_all=True))

    def _view(self, view: pb.ListAccessWindowsRequest.View.ValueType, call: VerifiedCall) -> Iterator[AccessWindow]:
        if view == pb.ListAccessWindowsRequest.VIEW_ALL:
            self._roles.check(call.caller, CallerKind.VIEWER)
            return self._accessing.list_all()
        return self._accessing.list_mine(call.caller)
