"""The methods of AdminService about recorded decisions: no gRPC package, and never more than a page in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from issuer.core.errors import AdminRefused, FieldViolation, InvalidTokenRequest, Reason
from issuer.rpc.decision_messages import decision_to_proto, wanted_from_proto
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from issuer.ports import DecisionBook
    from issuer.rpc.call import VerifiedCall

MAX_PAGE: Final = 1_000
USUAL_PAGE: Final = 50
MAX_WATCHES: Final = 4
"""So many streams one SPIFFE ID may hold open."""
LOOK_SECONDS: Final = 0.5


class DecisionMethods:
    """What AdminService tells of decisions, for any transport.

    Args:
        decisions: Where they are read.
    """

    def __init__(self, decisions: DecisionBook) -> None:
        self._decisions = decisions
        self._watches: Counter[str] = Counter()

    async def list_decisions(self, message: pb.ListDecisionsRequest, _call: VerifiedCall) -> pb.ListDecisionsResponse:
        """List decisions, the newest first."""
        size = message.page_size or USUAL_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidTokenRequest((FieldViolation("page_size", f"must be 1 to {MAX_PAGE}"),))
        before = _seq(message.page_token)
        found = await self._decisions.newest(wanted_from_proto(message.filter), size, before)
        return pb.ListDecisionsResponse(
            decisions=[decision_to_proto(record, seq) for seq, record in found],
            next_page_token=str(found[-1][0]) if len(found) == size else "",
        )

    async def get_decision(self, message: pb.GetDecisionRequest, _call: VerifiedCall) -> pb.GetDecisionResponse:
        """Find a decision by its id, or its token's."""
        if not message.name:
            raise InvalidTokenRequest((FieldViolation("name", "is required: the id of a decision, or a token's jti"),))
        found = await self._decisions.find(message.name)
        return pb.GetDecisionResponse(decisions=[decision_to_proto(record, seq) for seq, record in found])

    async def watch_decisions(
        self, message: pb.WatchDecisionsRequest, call: VerifiedCall
    ) -> AsyncIterator[pb.WatchDecisionsResponse | None]:
        """Tell decisions as they are recorded; ``None`` where there is none for a while.

        The next page is read when the caller has taken this one: a slow caller holds one page.
        """
        wanted, caller = wanted_from_proto(message.filter), str(call.caller.spiffe_id)
        if self._watches[caller] >= MAX_WATCHES:
            raise AdminRefused(Reason.TOO_MANY_WATCHES, f"{MAX_WATCHES} streams of this caller are open already")
        self._watches[caller] += 1
        try:
            last = message.after_seq if message.HasField("after_seq") else await self._decisions.last_seq()
            while True:
                found = await self._decisions.after(wanted, last, USUAL_PAGE)
                for seq, record in found:
                    yield pb.WatchDecisionsResponse(decision=decision_to_proto(record, seq))
                    last = seq
                if not found:
                    yield None
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._watches[caller] -= 1


def _seq(page_token: str) -> int | None:
    if not page_token:
        return None
    if not (page_token.isascii() and page_token.isdigit() and len(page_token) <= 18):  # noqa: PLR2004 - below 2**63
        raise InvalidTokenRequest((FieldViolation("page_token", "is not the one of a page before"),))
    return int(page_token)
