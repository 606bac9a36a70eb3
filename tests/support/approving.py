"""An issuer whose policy wants people to approve, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import approval_service_pb2 as pb
from issuer_api.v1 import approval_service_pb2_grpc as pb_grpc
from issuer_api.v1 import issuer_service_pb2 as issuer_pb
from support.deployment import DEADLINE, LEDGER, READER, SETTLER, Deployment, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, FEEDER, OPERATOR = (f"spiffe://dev.test/admin/{role}" for role in ("viewer", "feeder", "operator"))
ALICE, BOB, CAROL = (f"spiffe://dev.test/user/{name}" for name in ("alice", "bob", "carol"))
POLICY = f"""\
version: 1
facts:
  - {{name: risk, subject: caller, max_age: 10m, fields: {{score: int}}}}
audiences:
  - name: {LEDGER}
    application: ledger
    max_ttl: 10m
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.refund, risk: critical, approval: {{approvers: ["spiffe://dev.test/user/*"], valid_for: 15m}}}}
      - name: ledger.payout
        risk: critical
        approval: {{approvers: ["spiffe://dev.test/user/*"], quorum: 2, valid_for: 15m, uses: 3}}
grants:
  - id: refunds
    owner: carol
    workloads: ["{SETTLER}", "{READER}"]
    audience: {LEDGER}
    scopes: [ledger.read, ledger.refund, ledger.payout]
prohibitions:
  - id: risky
    workloads: ["spiffe://dev.test/**"]
    audiences: ["*"]
    when: has(facts.risk.score) && facts.risk.score >= 80
"""
REFUND = issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read", "ledger.refund"])
PAYOUT = issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.payout"])


class Approvable(Deployment):
    """Two workloads that need approvals, and approvers."""

    def __init__(self, folder: Path, policy: str = POLICY, **options: dict[str, object]) -> None:
        roles: dict[str, object] = {"viewers": [VIEWER], "operators": [OPERATOR], "feeders": {FEEDER: ["risk"]}}
        super().__init__(folder, policy=policy, options={"admin": roles, **options})

    @contextmanager
    def approvals(self, spiffe_id: str = ALICE) -> Iterator[pb_grpc.ApprovalServiceStub]:
        """Open a channel to ApprovalService."""
        with self.channel(self.svid(spiffe_id)) as channel:
            yield pb_grpc.ApprovalServiceStub(channel)

    def ask(self, token: issuer_pb.IssueTokenRequest = REFUND, by: str = SETTLER, why: str = "") -> pb.ApprovalRequest:
        """Ask for an approval."""
        with self.approvals(by) as stub:
            request = pb.CreateApprovalRequestRequest(token=token, reason=why)
            answer: pb.CreateApprovalRequestResponse = stub.CreateApprovalRequest(request, timeout=DEADLINE)
            return answer.approval_request

    def answer(self, method: str, name: str, by: str = ALICE, **fields: Any) -> pb.ApprovalRequest:
        """Approve, deny or cancel: ``Approve``, ``Deny``, ``Cancel``."""
        with self.approvals(by) as stub:
            request = getattr(pb, f"{method}RequestRequest")(name=name, **fields)
            answered: pb.ApprovalRequest = getattr(stub, f"{method}Request")(request, timeout=DEADLINE).approval_request
            return answered

    def refusal(self, method: str, name: str, by: str = ALICE, **fields: Any) -> str:
        """Return why somebody may not approve, deny or cancel; ``OK`` if they did."""
        try:
            self.answer(method, name, by, **fields)
        except grpc.RpcError as error:
            return reason_of(error)
        return "OK"

    def state(self, name: str, by: str = SETTLER) -> str:
        """Return where a request stands, without the prefix."""
        with self.approvals(by) as stub:
            found = stub.GetApprovalRequest(pb.GetApprovalRequestRequest(name=name), timeout=DEADLINE).approval_request
            return pb.ApprovalRequest.State.Name(found.state).removeprefix("STATE_")

    def token(self, request: issuer_pb.IssueTokenRequest = REFUND, by: str = SETTLER) -> issuer_pb.IssueTokenResponse:
        """Ask for a token."""
        with self.stub(self.svid(by)) as stub:
            answer: issuer_pb.IssueTokenResponse = stub.IssueToken(request, timeout=DEADLINE)
            return answer

    def outcome(self, request: issuer_pb.IssueTokenRequest = REFUND, by: str = SETTLER) -> str:
        """Return ``OK``, or why there is no token."""
        try:
            self.token(request, by)
        except grpc.RpcError as error:
            return reason_of(error)
        return "OK"

    def administer(self, method: str, request: Any, by: str = OPERATOR) -> Any:
        """Call AdminService."""
        with self.channel(self.svid(by)) as channel:
            return getattr(admin_grpc.AdminServiceStub(channel), method)(request, timeout=DEADLINE)

    def tell_risk(self, score: int) -> None:
        """Tell how risky the settler is."""
        fact = admin.Fact(type="risk", subject=SETTLER, values={"score": admin.FactValue(int_value=score)})
        self.administer("PutFacts", admin.PutFactsRequest(facts=[fact]), by=FEEDER)
