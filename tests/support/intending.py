"""An issuer whose policy knows intents, for tests: a scheduler that registers them, and a worker that redeems them."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import intent_service_pb2 as pb
from issuer_api.v1 import intent_service_pb2_grpc as pb_grpc
from issuer_api.v1 import issuer_service_pb2 as issuer_pb
from support.deployment import DEADLINE, LEDGER, Deployment, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, FEEDER, OPERATOR = (f"spiffe://dev.test/admin/{role}" for role in ("viewer", "feeder", "operator"))
SCHEDULER = "spiffe://dev.test/ns/batch/sa/scheduler"
WORKER = "spiffe://dev.test/ns/batch/sa/worker"
OTHER = "spiffe://dev.test/ns/batch/sa/other"
SERVER = "spiffe://dev.test/ns/ledger/sa/api"
REGISTRARS = f"""\
  - id: scheduling
    workloads: ["{SCHEDULER}"]
    application: batch
    audience: {LEDGER}
    scopes: [ledger.read, ledger.settle]
    grant_types: [intent]
    max_ttl: 5m
"""
POLICY = f"""\
version: 1
facts:
  - {{name: risk, subject: caller, max_age: 10m, fields: {{score: int}}}}
audiences:
  - name: {LEDGER}
    application: ledger
    servers: ["{SERVER}"]
    max_ttl: 10m
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.settle, risk: low}}
      - {{name: ledger.pay, risk: critical}}
      - {{name: ledger.refund, risk: critical, approval: {{approvers: ["spiffe://dev.test/user/*"], valid_for: 15m}}}}
grants:
{REGISTRARS}  - id: refunding
    workloads: ["{SCHEDULER}"]
    application: batch
    audience: {LEDGER}
    scopes: [ledger.refund]
    grant_types: [intent]
  - id: paying
    workloads: ["{SCHEDULER}", "{OTHER}"]
    application: batch
    audience: {LEDGER}
    scopes: [ledger.pay]
    grant_types: [intent]
    max_ttl: 2m
  - id: working
    workloads: ["{WORKER}", "{OTHER}"]
    application: batch
    audience: {LEDGER}
    scopes: [ledger.read, ledger.settle, ledger.pay]
    grant_types: [intent]
    max_ttl: 3m
  - id: reading
    workloads: ["{WORKER}"]
    application: batch
    audience: {LEDGER}
    scopes: [ledger.read]
prohibitions:
  - id: risky
    workloads: ["spiffe://dev.test/**"]
    audiences: ["*"]
    when: has(facts.risk.score) && facts.risk.score >= 80
"""
SETTLE: dict[str, Any] = {
    "audience": LEDGER,
    "scopes": ["ledger.read", "ledger.settle"],
    "operation": "settle-batch",
    "resource": "batch/17",
    "parameters": b'{"batch":17}',
    "transaction": "tx-1",
    "consumer": WORKER,
}


class Intending(Deployment):
    """Two workloads that work together, and those who administer."""

    def __init__(self, folder: Path, policy: str = POLICY, **options: dict[str, object]) -> None:
        roles: dict[str, object] = {"viewers": [VIEWER], "operators": [OPERATOR], "feeders": {FEEDER: ["risk"]}}
        super().__init__(folder, policy=policy, options={"admin": roles, **options})

    @contextmanager
    def intents(self, spiffe_id: str = WORKER) -> Iterator[pb_grpc.IntentServiceStub]:
        """Open a channel to IntentService."""
        with self.channel(self.svid(spiffe_id)) as channel:
            yield pb_grpc.IntentServiceStub(channel)

    def register(self, by: str = SCHEDULER, **changes: Any) -> pb.RegisteredIntent:
        """Register an intent."""
        with self.intents(by) as stub:
            request = pb.RegisterIntentRequest(**SETTLE | changes)
            answer: pb.RegisterIntentResponse = stub.RegisterIntent(request, timeout=DEADLINE)
            return answer.intent

    def redeem(self, name: str, by: str = WORKER, **fields: Any) -> pb.RedeemIntentResponse:
        """Redeem an intent."""
        with self.intents(by) as stub:
            answer: pb.RedeemIntentResponse = stub.RedeemIntent(
                pb.RedeemIntentRequest(name=name, **fields), timeout=DEADLINE
            )
            return answer

    def claims(self, name: str, **fields: Any) -> dict[str, Any]:
        """Redeem an intent, and return what the token says."""
        payload = self.redeem(name, **fields).token.token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return claims

    def cancel(self, name: str, by: str = SCHEDULER, reason: str = "") -> pb.RegisteredIntent:
        """Take an intent back."""
        with self.intents(by) as stub:
            answer: pb.CancelIntentResponse = stub.CancelIntent(
                pb.CancelIntentRequest(name=name, reason=reason), timeout=DEADLINE
            )
            return answer.intent

    def get(self, name: str, by: str = SCHEDULER) -> pb.RegisteredIntent:
        """Return an intent."""
        with self.intents(by) as stub:
            answer: pb.GetIntentResponse = stub.GetIntent(pb.GetIntentRequest(name=name), timeout=DEADLINE)
            return answer.intent

    def state(self, name: str) -> str:
        """Return where an intent stands, without the prefix."""
        return pb.RegisteredIntent.State.Name(self.get(name, VIEWER).state).removeprefix("STATE_")

    def listed(self, by: str = SCHEDULER, **fields: Any) -> list[str]:
        """Return the names of a page of intents."""
        with self.intents(by) as stub:
            answer = stub.ListIntents(pb.ListIntentsRequest(**fields), timeout=DEADLINE)
            return [each.name for each in answer.intents]

    def outcome(self, name: str, by: str = WORKER, **fields: Any) -> str:
        """Return ``OK``, or why there is no token."""
        return outcome_of(lambda: self.redeem(name, by, **fields))

    def refusal(self, by: str = SCHEDULER, **changes: Any) -> str:
        """Return why an intent is not registered; ``OK`` if it is."""
        return outcome_of(lambda: self.register(by, **changes))

    def administer(self, method: str, request: Any, by: str = OPERATOR) -> Any:
        """Call AdminService."""
        with self.channel(self.svid(by)) as channel:
            return getattr(admin_grpc.AdminServiceStub(channel), method)(request, timeout=DEADLINE)

    def decisions(self, caller: str) -> list[admin.Decision]:
        """Return the last decisions about a caller, the newest first."""
        request = admin.ListDecisionsRequest(filter=admin.DecisionFilter(caller=caller), page_size=1_000)
        return list(self.administer("ListDecisions", request).decisions)

    def revoke(self, **selector: Any) -> admin.RevokeResponse:
        """Revoke tokens."""
        request = admin.RevokeRequest(selector=admin.TokenSelector(**selector), reason="INC-7")
        answer: admin.RevokeResponse = self.administer("Revoke", request)
        return answer

    def is_active(self, token: str) -> bool:
        """Return whether the API finds a token good."""
        with self.stub(self.svid(SERVER)) as stub:
            return bool(stub.IntrospectToken(issuer_pb.IntrospectTokenRequest(token=token), timeout=DEADLINE).active)

    def tell_risk(self, subject: str, score: int) -> None:
        """Tell how risky a workload is."""
        fact = admin.Fact(type="risk", subject=subject, values={"score": admin.FactValue(int_value=score)})
        self.administer("PutFacts", admin.PutFactsRequest(facts=[fact]), by=FEEDER)

    def put_in_force(self, policy: str) -> None:
        """Change the policy."""
        self.policy_file.write_text(policy, encoding="utf-8")
        self.administer("ReloadPolicy", admin.ReloadPolicyRequest())


def outcome_of(call: Any) -> str:
    """Return ``OK``, or the reason of the refusal."""
    try:
        call()
    except grpc.RpcError as error:
        return reason_of(error)
    return "OK"
