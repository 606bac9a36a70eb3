"""The methods of AdminService about what many decisions have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.denial_advice import changes_for
from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import microseconds, moment
from issuer.core.unused_rights import unused_rights
from issuer.rpc.admin_messages import timestamp
from issuer.rpc.decision_messages import decision_to_proto, moment_from_proto
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.core.reports import Counted
    from issuer.ports import PolicyBook, ReportBook
    from issuer.rpc.call import VerifiedCall

MAX_LISTED: Final = 1_000
USUALLY_LISTED: Final = 50


class ReportMethods:
    """What AdminService tells of many decisions, for any transport.

    Args:
        reports: Where they are read.
        policies: The policy in force, whose unused rights are told.
    """

    def __init__(self, reports: ReportBook, policies: PolicyBook) -> None:
        self._reports = reports
        self._policies = policies

    async def list_denials(self, message: pb.ListDenialsRequest, call: VerifiedCall) -> pb.ListDenialsResponse:
        """Tell what is refused, and what would have to change."""
        since, until = _range(message.range, call)
        answer = pb.ListDenialsResponse()
        for group in await self._reports.denials(since, until, _limit(message.limit)):
            policy = await self._reports.policy(group.newest.policy) if group.newest.policy else None
            answer.denials.add(
                caller=group.caller,
                audience=group.audience,
                reason=group.reason,
                requests=group.requests,
                first_time=timestamp(moment(group.first)),
                last_time=timestamp(moment(group.last)),
                newest=decision_to_proto(group.newest, group.newest_seq),
                changes=changes_for(group, policy),
            )
        return answer

    async def list_shared_identities(
        self, message: pb.ListSharedIdentitiesRequest, call: VerifiedCall
    ) -> pb.ListSharedIdentitiesResponse:
        """Tell which identities several programs seem to share."""
        since, until = _range(message.range, call)
        if not 0 <= message.min_score <= 1:
            raise InvalidTokenRequest((FieldViolation("min_score", "must be from 0 to 1"),))
        answer = pb.ListSharedIdentitiesResponse()
        for one in await self._reports.shared_identities(since, until, message.min_score):
            answer.identities.add(
                caller=one.caller,
                score=one.score,
                difference=one.difference,
                applications=one.applications,
                addresses=one.addresses,
                certificates=one.certificates,
                certificates_at_once=one.certificates_at_once,
                groups={address: pb.StringList(values=asked) for address, asked in one.groups.items()},
            )
        return answer

    async def list_unused_rights(
        self, message: pb.ListUnusedRightsRequest, call: VerifiedCall
    ) -> pb.ListUnusedRightsResponse:
        """Tell which grants of the policy in force nobody used."""
        since, until = _range(message.range, call)
        used = await self._reports.granted(since, until)
        oldest = await self._reports.oldest()
        unused = unused_rights(self._policies.current(), ((each.audience, each.rules, each.scopes) for each in used))
        return pb.ListUnusedRightsResponse(
            rights=[pb.UnusedRight(**right._asdict()) for right in unused],
            oldest_time=None if oldest is None else timestamp(moment(oldest)),
        )

    async def get_top(self, message: pb.GetTopRequest, call: VerifiedCall) -> pb.GetTopResponse:
        """Tell who asks most, for what, and what is alive."""
        since, until = _range(message.range, call)
        found = await self._reports.top(since, until, microseconds(call.now), _limit(message.limit))
        return pb.GetTopResponse(
            callers=map(_counted, found.callers),
            audiences=map(_counted, found.audiences),
            alive=map(_counted, found.alive),
        )

    async def list_exception_uses(
        self, message: pb.ListExceptionUsesRequest, call: VerifiedCall
    ) -> pb.ListExceptionUsesResponse:
        """Tell how exceptions for legacy applications were used."""
        since, until = _range(message.range, call)
        answer = pb.ListExceptionUsesResponse()
        for use in await self._reports.exception_uses(since, until):
            answer.uses.add(
                rules=use.rules,
                caller=use.caller,
                audience=use.audience,
                requests=use.requests,
                last_time=timestamp(moment(use.last)),
                alive_until=timestamp(moment(use.alive_until)),
            )
        return answer


def _range(message: pb.TimeRange, call: VerifiedCall) -> tuple[int, int]:
    if not message.HasField("since"):
        raise InvalidTokenRequest((FieldViolation("range.since", "is required"),))
    since = moment_from_proto("range.since", message.since)
    if not message.HasField("until"):
        return since, microseconds(call.now) + 1
    return since, moment_from_proto("range.until", message.until)


def _limit(limit: int) -> int:
    if not 0 <= limit <= MAX_LISTED:
        raise InvalidTokenRequest((FieldViolation("limit", f"must be 1 to {MAX_LISTED}"),))
    return limit or USUALLY_LISTED


def _counted(counted: Counted) -> pb.Counted:
    return pb.Counted(name=counted.name, requests=counted.requests, last_time=timestamp(moment(counted.last)))
