"""A client of the services that people use; the connection and the identity are those of :mod:`agent_client`.

Imports gRPC: import it within a command, so that the others start without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent_client.exchanges import Exchange
from agent_client.sync import SyncIssuerClient
from issuer_api.v1 import access_service_pb2 as access_pb
from issuer_api.v1 import admin_service_pb2 as pb
from issuer_api.v1 import approval_service_pb2 as approval_pb
from issuer_api.v1 import intent_service_pb2 as intent_pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
_APPROVALS = approval_pb.DESCRIPTOR.services_by_name["ApprovalService"].full_name
_ACCESSES = access_pb.DESCRIPTOR.services_by_name["AccessService"].full_name
_INTENTS = intent_pb.DESCRIPTOR.services_by_name["IntentService"].full_name
Answer = TypeVar("Answer", bound="Message")


class AdminClient(SyncIssuerClient):
    """Calls an issuer as an operator, a viewer or an approver, with the SVID of this process.

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

    def list_keys(self) -> Sequence[pb.SigningKey]:
        """Return the signing keys."""
        return self._ask("ListKeys", pb.ListKeysRequest(), pb.ListKeysResponse).keys

    def prepare_key(self) -> Sequence[pb.SigningKey]:
        """Make the next key, and return all."""
        return self._ask("PrepareKey", pb.PrepareKeyRequest(), pb.PrepareKeyResponse).keys

    def activate_key(self, key_id: str, *, force: bool) -> Sequence[pb.SigningKey]:
        """Let the next key sign, and return all."""
        return self._ask("ActivateKey", pb.ActivateKeyRequest(key_id=key_id, force=force), pb.ActivateKeyResponse).keys

    def remove_key(self, key_id: str, *, force: bool) -> Sequence[pb.SigningKey]:
        """Publish a key no more, and return all."""
        return self._ask("RemoveKey", pb.RemoveKeyRequest(key_id=key_id, force=force), pb.RemoveKeyResponse).keys

    def approval_request(self, name: str) -> approval_pb.GetApprovalRequestResponse:
        """Return a request for approval, with what the identity that asked holds."""
        request = approval_pb.GetApprovalRequestRequest(name=name)
        return self._ask("GetApprovalRequest", request, approval_pb.GetApprovalRequestResponse, _APPROVALS)

    def list_approval_requests(
        self, request: approval_pb.ListApprovalRequestsRequest
    ) -> approval_pb.ListApprovalRequestsResponse:
        """Return a page of requests for approval."""
        return self._ask("ListApprovalRequests", request, approval_pb.ListApprovalRequestsResponse, _APPROVALS)

    def approve_request(self, request: approval_pb.ApproveRequestRequest) -> approval_pb.ApprovalRequest:
        """Approve, and return how the request stands."""
        answer = self._ask("ApproveRequest", request, approval_pb.ApproveRequestResponse, _APPROVALS)
        return answer.approval_request

    def deny_request(self, name: str, reason: str) -> approval_pb.ApprovalRequest:
        """Deny, and return how the request stands."""
        request = approval_pb.DenyRequestRequest(name=name, reason=reason)
        return self._ask("DenyRequest", request, approval_pb.DenyRequestResponse, _APPROVALS).approval_request

    def access_window(self, name: str) -> access_pb.GetAccessWindowResponse:
        """Return a window of access, with how many tokens of it are alive."""
        request = access_pb.GetAccessWindowRequest(name=name)
        return self._ask("GetAccessWindow", request, access_pb.GetAccessWindowResponse, _ACCESSES)

    def list_access_windows(self, request: access_pb.ListAccessWindowsRequest) -> access_pb.ListAccessWindowsResponse:
        """Return a page of windows of access."""
        return self._ask("ListAccessWindows", request, access_pb.ListAccessWindowsResponse, _ACCESSES)

    def end_access(self, name: str, reason: str) -> access_pb.AccessWindow:
        """End a window of access, and return how it stands."""
        request = access_pb.EndAccessRequest(name=name, reason=reason)
        return self._ask("EndAccess", request, access_pb.EndAccessResponse, _ACCESSES).access_window

    def intent(self, name: str) -> intent_pb.RegisteredIntent:
        """Return an intent."""
        return self._ask(
            "GetIntent", intent_pb.GetIntentRequest(name=name), intent_pb.GetIntentResponse, _INTENTS
        ).intent

    def page_of_intents(self, request: intent_pb.ListIntentsRequest) -> intent_pb.ListIntentsResponse:
        """Return a page of intents."""
        return self._ask("ListIntents", request, intent_pb.ListIntentsResponse, _INTENTS)

    def take_back_intent(self, name: str, reason: str) -> intent_pb.RegisteredIntent:
        """Take an intent back, and return how it stands."""
        request = intent_pb.CancelIntentRequest(name=name, reason=reason)
        return self._ask("CancelIntent", request, intent_pb.CancelIntentResponse, _INTENTS).intent

    def _ask(self, method: str, message: Message, answer: type[Answer], service: str = _SERVICE) -> Answer:
        exchange = Exchange(f"/{service}/{method}", message, answer.FromString, _as_it_is)
        response: Answer = self._call(exchange, None)
        return response


def _as_it_is(message: Answer, _circumstances: object) -> Answer:
    return message
