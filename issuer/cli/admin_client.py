"""A client of AdminService: the connection, identity and errors of :mod:`agent_client`, and other methods.

Imports gRPC: import it within a command, so that the others start without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent_client.exchanges import Exchange
from agent_client.sync import SyncIssuerClient
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
Answer = TypeVar("Answer", bound="Message")


class AdminClient(SyncIssuerClient):
    """Calls an issuer as an operator or a viewer, with the SVID of this process.

    Every method is safe to repeat, so each is tried again while the issuer is unavailable. Errors are those of
    :mod:`agent_client.errors`.
    """

    def policy_status(self) -> pb.GetPolicyStatusResponse:
        """Return which policy is in force, and which are kept."""
        return self._ask("GetPolicyStatus", pb.GetPolicyStatusRequest(), pb.GetPolicyStatusResponse)

    def reload_policy(self) -> pb.PolicyGeneration:
        """Load the policy's files, and return what is in force."""
        return self._ask("ReloadPolicy", pb.ReloadPolicyRequest(), pb.ReloadPolicyResponse).current

    def rollback_policy(self, digest: str) -> pb.PolicyGeneration:
        """Put a kept policy in force, and return it."""
        return self._ask("RollbackPolicy", pb.RollbackPolicyRequest(digest=digest), pb.RollbackPolicyResponse).current

    def revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        """Revoke tokens. Safe to repeat only with a ``request_id``."""
        return self._ask("Revoke", request, pb.RevokeResponse)

    def list_revocations(self, request: pb.ListRevocationsRequest) -> pb.ListRevocationsResponse:
        """Return a page of revocations."""
        return self._ask("ListRevocations", request, pb.ListRevocationsResponse)

    def lift_revocation(self, revocation_id: str) -> pb.Revocation:
        """Let tokens be issued again, and return what was lifted."""
        request = pb.LiftRevocationRequest(revocation_id=revocation_id)
        return self._ask("LiftRevocation", request, pb.LiftRevocationResponse).revocation

    def _ask(self, method: str, message: Message, answer: type[Answer]) -> Answer:
        exchange = Exchange(f"/{_SERVICE}/{method}", message, answer.FromString, _as_it_is)
        response: Answer = self._call(exchange, None)
        return response


def _as_it_is(message: Answer, _circumstances: object) -> Answer:
    return message
