"""An issuer whose policy gives access just in time, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from issuer_api.v1 import access_service_pb2 as pb
from issuer_api.v1 import access_service_pb2_grpc as pb_grpc
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import issuer_service_pb2 as issuer_pb
from support.approving import FEEDER, OPERATOR, VIEWER, Approvable
from support.deployment import DEADLINE, LEDGER, READER, SETTLER, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

SERVER = "spiffe://dev.test/ns/ledger/sa/api"
POLICY = f"""\
version: 1
facts:
  - {{name: risk, subject: caller, max_age: 10m, fields: {{score: int}}}}
  - {{name: change, subject: ticket, max_age: 30m, fields: {{approved: bool}}}}
audiences:
  - name: {LEDGER}
    application: ledger
    max_ttl: 10m
    servers: ["{SERVER}"]
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.fix, risk: moderate}}
      - {{name: ledger.change, risk: moderate}}
      - {{name: ledger.refund, risk: critical, approval: {{approvers: ["spiffe://dev.test/user/*"], valid_for: 15m}}}}
grants:
  - id: incident
    owner: carol
    workloads: ["{SETTLER}", "{READER}"]
    audience: {LEDGER}
    scopes: [ledger.read, ledger.fix]
    grant_types: [jit]
    window: 30m
  - id: change
    owner: carol
    workloads: ["{SETTLER}"]
    audience: {LEDGER}
    scopes: [ledger.change]
    grant_types: [jit]
    when: facts.change.approved
  - id: refunds
    owner: carol
    workloads: ["{SETTLER}"]
    audience: {LEDGER}
    scopes: [ledger.refund]
    grant_types: [jit]
prohibitions:
  - id: risky
    workloads: ["spiffe://dev.test/ns/**"]
    audiences: ["*"]
    when: has(facts.risk.score) && facts.risk.score >= 80
"""
FIX = ("ledger.read", "ledger.fix")
QUIET: dict[str, object] = {"score": 1}


class Accessible(Approvable):
    """Two workloads that may have access for a while, those who approve that, and a server that asks about tokens."""

    def __init__(self, folder: Path, policy: str = POLICY, **options: dict[str, object]) -> None:
        feeders = {FEEDER: ["risk", "change"]}
        roles: dict[str, object] = {"viewers": [VIEWER], "operators": [OPERATOR], "feeders": feeders}
        super().__init__(folder, policy, admin=roles, **options)

    @contextmanager
    def accesses(self, spiffe_id: str = SETTLER, **faults: Any) -> Iterator[pb_grpc.AccessServiceStub]:
        """Open a channel to AccessService."""
        with self.channel(self.svid(spiffe_id, **faults)) as channel:
            yield pb_grpc.AccessServiceStub(channel)

    def start(self, *scopes: str, by: str = SETTLER, seconds: int | None = None, **fields: Any) -> pb.AccessWindow:
        """Start access."""
        usual = {"audience": LEDGER, "reason": "incident 7", "scopes": scopes or FIX}
        request = pb.StartAccessRequest(**(usual | fields))
        if seconds is not None:
            request.duration.CopyFrom(Duration(seconds=seconds))
        with self.accesses(by) as stub:
            answer: pb.StartAccessResponse = stub.StartAccess(request, timeout=DEADLINE)
            return answer.access_window

    def complete(self, name: str, by: str = SETTLER) -> pb.AccessWindow:
        """Complete access."""
        with self.accesses(by) as stub:
            answer: pb.CompleteAccessResponse = stub.CompleteAccess(
                pb.CompleteAccessRequest(name=name), timeout=DEADLINE
            )
            return answer.access_window

    def end(self, name: str, why: str = "over", by: str = OPERATOR) -> pb.AccessWindow:
        """End access, as an operator."""
        with self.accesses(by) as stub:
            answer: pb.EndAccessResponse = stub.EndAccess(pb.EndAccessRequest(name=name, reason=why), timeout=DEADLINE)
            return answer.access_window

    def window(self, name: str, by: str = SETTLER) -> pb.AccessWindow:
        """Return how a window stands."""
        with self.accesses(by) as stub:
            answer: pb.GetAccessWindowResponse = stub.GetAccessWindow(
                pb.GetAccessWindowRequest(name=name), timeout=DEADLINE
            )
            return answer.access_window

    def stands(self, name: str) -> tuple[str, str]:
        """Return the state of a window, without the prefix, and why it ended."""
        found = self.window(name, OPERATOR)
        return pb.AccessWindow.State.Name(found.state).removeprefix("STATE_"), found.ended_reason

    def under(
        self, window: pb.AccessWindow | str, *scopes: str, by: str = SETTLER, **fields: Any
    ) -> issuer_pb.IssueTokenResponse:
        """Ask for a token under a window."""
        name = window if isinstance(window, str) else window.name
        usual = {"audience": LEDGER, "scopes": scopes or FIX[:1], "access": name}
        return self.token(issuer_pb.IssueTokenRequest(**(usual | fields)), by)

    def refused(self, window: pb.AccessWindow | str, *scopes: str, by: str = SETTLER, **fields: Any) -> str:
        """Return why there is no token under a window; ``OK`` if there is one."""
        try:
            self.under(window, *scopes, by=by, **fields)
        except grpc.RpcError as error:
            return reason_of(error)
        return "OK"

    def is_active(self, token: str) -> bool:
        """Return what a server of the audience is told about a token."""
        with self.stub(self.svid(SERVER)) as stub:
            return bool(stub.IntrospectToken(issuer_pb.IntrospectTokenRequest(token=token), timeout=DEADLINE).active)

    def tell_change(self, approved: bool, ticket: str = "CHG-7", until: datetime | None = None) -> None:  # noqa: FBT001
        """Tell whether a change is approved, for the settler at the ledger."""
        values = {"approved": admin.FactValue(bool_value=approved)}
        fact = admin.Fact(type="change", subject=ticket, values=values, caller=SETTLER, audience=LEDGER)
        if until is not None:
            fact.expire_time.CopyFrom(Timestamp())
            fact.expire_time.FromDatetime(until)
        self.administer("PutFacts", admin.PutFactsRequest(facts=[fact]), by=FEEDER)


def why_not(call: Any, *arguments: Any, **fields: Any) -> str:
    """Return the reason with which a call is refused; ``OK`` if it is not."""
    try:
        call(*arguments, **fields)
    except grpc.RpcError as error:
        return reason_of(error)
    return "OK"
