"""An issuer whose tokens an operator can revoke, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from support.deployment import DEADLINE, LEDGER, POLICY, READER, REQUEST, SETTLER, Deployment, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_api.v1 import issuer_service_pb2 as pb

VIEWER, OPERATOR = (f"spiffe://dev.test/admin/{role}" for role in ("viewer", "operator"))
READS = f"""\
  - id: reporting
    owner: reports-team
    workloads: ["{READER}"]
    application: reports
    audience: {LEDGER}
    scopes: [ledger.read]
"""

SERVER, MAIL_SERVER = "spiffe://dev.test/ns/ledger/sa/api", "spiffe://dev.test/ns/mail/sa/api"
MAIL = "https://mail.dev.test"
SECOND = f"""\
  - name: {MAIL}
    application: mail
    servers: ["{MAIL_SERVER}"]
    scopes: [{{name: mail.send, risk: low}}]
grants:
  - id: mailing
    owner: payments-team
    workloads: ["{SETTLER}"]
    application: payments
    audience: {MAIL}
    scopes: [mail.send]
"""
OWNED = "    application: ledger\n"
SERVED = POLICY.replace(OWNED, f'{OWNED}    servers: ["{SERVER}"]\n', 1).replace("grants:\n", SECOND) + READS
"""Of two audiences, each with a server."""


class Revocable(Deployment):
    """Two workloads that may have tokens, and an operator."""

    def __init__(self, folder: Path, policy: str = POLICY + READS, **options: dict[str, object]) -> None:
        roles: dict[str, object] = {"viewers": [VIEWER], "operators": [OPERATOR]}
        super().__init__(folder, policy=policy, options={"admin": roles, **options})

    @contextmanager
    def administer(self, spiffe_id: str = OPERATOR) -> Iterator[admin_grpc.AdminServiceStub]:
        """Open a channel with the identity of an operator, or another."""
        with self.channel(self.svid(spiffe_id)) as channel:
            yield admin_grpc.AdminServiceStub(channel)

    def revoke(self, reason: str = "a leak", **fields: Any) -> admin.RevokeResponse:
        """Revoke; fields of the selector and of the request alike."""
        request = admin.RevokeRequest(reason=reason)
        for name, value in fields.items():
            target = request if name in request.DESCRIPTOR.fields_by_name else request.selector
            if hasattr(value, "DESCRIPTOR"):
                getattr(target, name).CopyFrom(value)
            else:
                setattr(target, name, value)
        with self.administer() as stub:
            answer: admin.RevokeResponse = stub.Revoke(request, timeout=DEADLINE)
            return answer

    def lift(self, revocation_id: str) -> admin.Revocation:
        """Lift a revocation."""
        with self.administer() as stub:
            request = admin.LiftRevocationRequest(revocation_id=revocation_id)
            answer: admin.LiftRevocationResponse = stub.LiftRevocation(request, timeout=DEADLINE)
            return answer.revocation

    def issued(self, spiffe_id: str = SETTLER, request: pb.IssueTokenRequest = REQUEST) -> pb.IssueTokenResponse:
        """Return a token of a workload."""
        with self.stub(self.svid(spiffe_id)) as stub:
            answer: pb.IssueTokenResponse = stub.IssueToken(request, timeout=DEADLINE)
            return answer

    def outcome(self, spiffe_id: str = SETTLER) -> str:
        """Return ``OK``, or why a workload gets no token."""
        try:
            self.issued(spiffe_id)
        except grpc.RpcError as error:
            return reason_of(error)
        return "OK"
