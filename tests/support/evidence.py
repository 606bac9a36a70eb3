"""An issuer whose policy wants persons, an OIDC issuer that knows them, and what each may bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from issuer_api.v1 import issuer_service_pb2 as issuer_pb
from support.approving import ALICE, BOB, Approvable
from support.deployment import LEDGER, READER, SETTLER
from support.forging import Forge
from support.oidc import AUDIENCE, id_token, serve_oidc

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_api.v1 import approval_service_pb2 as pb
    from support.key_server import KeyServer

ADMIN_ALICE = "spiffe://dev.test/user/alice-admin"
READER_HIMSELF = "spiffe://dev.test/user/reader"
GATEWAY = "spiffe://dev.test/ns/chat/sa/bot"
SUBJECTS = {ALICE: "00u1", ADMIN_ALICE: "00u1", BOB: "00u2", READER: "00u3", READER_HIMSELF: "00u3"}
POLICY = f"""\
version: 1
audiences:
  - name: {LEDGER}
    application: ledger
    max_ttl: 10m
    scopes:
      - name: ledger.refund
        risk: critical
        approval: {{approvers: ["spiffe://dev.test/user/*"], valid_for: 15m, human: true}}
      - name: ledger.payout
        risk: critical
        approval: {{approvers: ["spiffe://dev.test/user/*"], quorum: 2, valid_for: 15m, human: true}}
grants:
  - id: refunds
    owner: payments-team
    workloads: ["{SETTLER}", "{READER}"]
    audience: {LEDGER}
    scopes: [ledger.refund, ledger.payout]
"""
REFUND = issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"])


class Provable(Approvable):
    """Approvers who must prove to be persons.

    Args:
        folder: For everything.
        server: Is made the OIDC issuer that vouches for them.
    """

    def __init__(self, folder: Path, server: KeyServer) -> None:
        self.forge = Forge()
        self.oidc = server.issuer
        serve_oidc(server, [self.forge.jwk])
        issuers: Any = [
            {"name": "people", "url": server.issuer, "audience": AUDIENCE},
            {"name": "pipelines", "url": server.issuer, "audience": "ci"},
        ]
        evidence: Any = [{"issuer": "people", "people": SUBJECTS}]
        approvals: dict[str, object] = {"gateways": [GATEWAY], "evidence": evidence}
        super().__init__(folder, POLICY, oidc={"issuers": issuers}, approvals=approvals)

    def signed_in(self, asked: pb.ApprovalRequest, spiffe_id: str = ALICE, **claims: object) -> str:
        """Return the ID token of somebody who signs in for a request."""
        said: dict[str, Any] = {"sub": SUBJECTS[spiffe_id], "nonce": asked.evidence_nonce, **claims}
        return id_token(self.forge, self.oidc, **said)
