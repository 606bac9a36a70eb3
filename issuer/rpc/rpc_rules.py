"""Who may call each RPC. An RPC that is not listed here is refused, so a new one cannot be left open by mistake."""

from __future__ import annotations

from enum import Enum, auto


class CallerKind(Enum):
    """What a caller must have proved before the method runs."""

    TLS_PEER = auto()
    """A certificate that TLS accepted; the method tells nothing about anyone (health, reflection)."""
    WORKLOAD = auto()
    """An X.509-SVID that our own code verified."""
    VIEWER = auto()
    """Such an SVID, of a SPIFFE ID that the configuration lets look at the administration."""
    OPERATOR = auto()
    """Such an SVID, of a SPIFFE ID that the configuration lets administer."""
    FEEDER = auto()
    """Such an SVID, of a SPIFFE ID that the configuration lets tell facts."""


RPC_RULES: dict[str, CallerKind] = {
    "issuer_api.v1.IssuerService/IssueToken": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/BatchIssueTokens": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/ExchangeToken": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/ListAccess": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/GetKeySet": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/RevokeToken": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/IntrospectToken": CallerKind.WORKLOAD,
    "issuer_api.v1.IssuerService/WatchRevocations": CallerKind.WORKLOAD,
    "issuer_api.v1.AdminService/PutFacts": CallerKind.FEEDER,
    "issuer_api.v1.AdminService/GetPolicyStatus": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/ReloadPolicy": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/RollbackPolicy": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/ListDecisions": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/GetDecision": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/WatchDecisions": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/ListDenials": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/ListSharedIdentities": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/ListUnusedRights": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/GetTop": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/ListExceptionUses": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/Revoke": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/ListRevocations": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/LiftRevocation": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/ListKeys": CallerKind.VIEWER,
    "issuer_api.v1.AdminService/PrepareKey": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/ActivateKey": CallerKind.OPERATOR,
    "issuer_api.v1.AdminService/RemoveKey": CallerKind.OPERATOR,
    "issuer_api.v1.ApprovalService/CreateApprovalRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.ApprovalService/GetApprovalRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.ApprovalService/WaitApprovalRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.ApprovalService/ListApprovalRequests": CallerKind.WORKLOAD,
    # For those whom policy names as approvers of the very request; ApprovalMethods looks.
    "issuer_api.v1.ApprovalService/ApproveRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.ApprovalService/DenyRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.ApprovalService/CancelRequest": CallerKind.WORKLOAD,
    "issuer_api.v1.AccessService/StartAccess": CallerKind.WORKLOAD,
    "issuer_api.v1.AccessService/CompleteAccess": CallerKind.WORKLOAD,
    "issuer_api.v1.AccessService/GetAccessWindow": CallerKind.WORKLOAD,
    "issuer_api.v1.AccessService/ListAccessWindows": CallerKind.WORKLOAD,
    "issuer_api.v1.AccessService/EndAccess": CallerKind.OPERATOR,
    # Who may register or redeem what is for policy to decide; IntentMethods shows a caller what concerns it.
    "issuer_api.v1.IntentService/RegisterIntent": CallerKind.WORKLOAD,
    "issuer_api.v1.IntentService/GetIntent": CallerKind.WORKLOAD,
    "issuer_api.v1.IntentService/ListIntents": CallerKind.WORKLOAD,
    "issuer_api.v1.IntentService/CancelIntent": CallerKind.WORKLOAD,
    "issuer_api.v1.IntentService/RedeemIntent": CallerKind.WORKLOAD,
    "grpc.health.v1.Health/Check": CallerKind.TLS_PEER,
    "grpc.health.v1.Health/List": CallerKind.TLS_PEER,
    "grpc.health.v1.Health/Watch": CallerKind.TLS_PEER,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": CallerKind.TLS_PEER,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": CallerKind.TLS_PEER,
}


def is_for_callers(method: str) -> bool:
    """Return whether a method is for verified callers, who take turns."""
    return RPC_RULES.get(method, CallerKind.TLS_PEER) is not CallerKind.TLS_PEER
