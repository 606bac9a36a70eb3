"""AdminService and live context on a real server: roles, facts told and read, policies put in force and back."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from support.deployment import DEADLINE, LEDGER, POLICY, SETTLER, Deployment, reason_of
from support.eventually import eventually

from issuer.rpc.rpc_rules import RPC_RULES
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, OPERATOR, FEEDER = (f"spiffe://dev.test/admin/{role}" for role in ("viewer", "operator", "feeder"))
CONTEXT = """
facts:
  - {name: posture, subject: caller, max_age: 10m, fields: {status: string, score: int}}
  - {name: change, subject: ticket, max_age: 1h, fields: {approved: bool}}
"""
LIVE = POLICY + "    when: facts.posture.status == 'healthy' && facts.change.approved\n" + CONTEXT
ASKED = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], intent=pb.Intent(ticket="CHG-1"))
POSTURE = admin.Fact(type="posture", subject=SETTLER, values={"status": admin.FactValue(string_value="healthy")})
CHANGE = admin.Fact(
    type="change",
    subject="CHG-1",
    values={"approved": admin.FactValue(bool_value=True)},
    caller=SETTLER,
    audience=LEDGER,
)


class Administered(Deployment):
    def __init__(self, folder: Path) -> None:
        self.facts_folder = folder / "facts"
        self.facts_folder.mkdir()
        roles: dict[str, object] = {
            "viewers": [VIEWER],
            "operators": [OPERATOR],
            "feeders": {FEEDER: ["posture", "change"]},
        }
        options: dict[str, dict[str, object]] = {"admin": roles, "facts": {"folder": str(self.facts_folder)}}
        super().__init__(folder, policy=LIVE, options=options)

    @contextmanager
    def administer(self, spiffe_id: str) -> Iterator[admin_grpc.AdminServiceStub]:
        with self.channel(self.svid(spiffe_id)) as channel:
            yield admin_grpc.AdminServiceStub(channel)

    def put(self, *facts: admin.Fact) -> admin.PutFactsResponse:
        with self.administer(FEEDER) as stub:
            answer: admin.PutFactsResponse = stub.PutFacts(admin.PutFactsRequest(facts=facts), timeout=DEADLINE)
            return answer

    def status(self) -> admin.GetPolicyStatusResponse:
        with self.administer(VIEWER) as stub:
            request = admin.GetPolicyStatusRequest()
            answer: admin.GetPolicyStatusResponse = stub.GetPolicyStatus(request, timeout=DEADLINE)
            return answer

    def issue(self, request: pb.IssueTokenRequest = ASKED) -> str:
        """Return ``OK`` or the reason of the refusal."""
        with self.stub() as stub:
            try:
                stub.IssueToken(request, timeout=DEADLINE)
            except grpc.RpcError as error:
                return reason_of(error)
        return "OK"


@pytest.fixture
def administered(tmp_path: Path) -> Iterator[Administered]:
    with Administered(tmp_path) as deployment:
        yield deployment


METHODS = {
    "PutFacts": (admin.PutFactsRequest(facts=[POSTURE]), {FEEDER}),
    "GetPolicyStatus": (admin.GetPolicyStatusRequest(), {VIEWER, OPERATOR}),
    "ReloadPolicy": (admin.ReloadPolicyRequest(), {OPERATOR}),
    "RollbackPolicy": (admin.RollbackPolicyRequest(digest="sha256:0"), {OPERATOR}),
    "ListDecisions": (admin.ListDecisionsRequest(), {VIEWER, OPERATOR}),
    "GetDecision": (admin.GetDecisionRequest(name="x"), {VIEWER, OPERATOR}),
    "WatchDecisions": (admin.WatchDecisionsRequest(after_seq=0), {VIEWER, OPERATOR}),
    "ListDenials": (admin.ListDenialsRequest(), {VIEWER, OPERATOR}),
    "ListSharedIdentities": (admin.ListSharedIdentitiesRequest(), {VIEWER, OPERATOR}),
    "ListUnusedRights": (admin.ListUnusedRightsRequest(), {VIEWER, OPERATOR}),
    "GetTop": (admin.GetTopRequest(), {VIEWER, OPERATOR}),
    "ListExceptionUses": (admin.ListExceptionUsesRequest(), {VIEWER, OPERATOR}),
    "Revoke": (admin.RevokeRequest(), {OPERATOR}),
    "ListRevocations": (admin.ListRevocationsRequest(), {VIEWER, OPERATOR}),
    "LiftRevocation": (admin.LiftRevocationRequest(), {OPERATOR}),
    "ListKeys": (admin.ListKeysRequest(), {VIEWER, OPERATOR}),
    "PrepareKey": (admin.PrepareKeyRequest(), {OPERATOR}),
    "ActivateKey": (admin.ActivateKeyRequest(), {OPERATOR}),
    "RemoveKey": (admin.RemoveKeyRequest(), {OPERATOR}),
}


def test_every_method_is_for_its_roles_alone(administered: Administered) -> None:
    assert {f"issuer_api.v1.AdminService/{name}" for name in METHODS} == {
        rpc for rpc in RPC_RULES if "AdminService" in rpc
    }
    for name, (request, allowed) in METHODS.items():
        for spiffe_id in (SETTLER, VIEWER, OPERATOR, FEEDER):
            with administered.administer(spiffe_id) as stub:
                try:
                    answer = getattr(stub, name)(request, timeout=DEADLINE)
                    if name.startswith("Watch"):
                        next(answer)
                        answer.cancel()
                    reason = "OK"
                except grpc.RpcError as error:
                    reason = reason_of(error)
            assert (reason == "RPC_NOT_ALLOWED") is (spiffe_id not in allowed), (name, spiffe_id, reason)


def test_told_facts_decide_and_their_end_is_the_end_of_access(administered: Administered) -> None:
    assert administered.issue() == "FACT_MISSING"
    seen = datetime.now(UTC) - timedelta(minutes=10) + timedelta(seconds=3)
    old = admin.Fact()
    old.CopyFrom(POSTURE)
    old.observe_time.FromDatetime(seen)
    answer = administered.put(old, CHANGE)
    assert answer.expire_times[0].ToDatetime(UTC) == seen + timedelta(minutes=10)
    assert administered.issue() == "OK"
    assert eventually(lambda: administered.issue() == "FACT_MISSING")
    sick = admin.Fact(type="posture", subject=SETTLER, values={"status": admin.FactValue(string_value="sick")})
    administered.put(sick)
    assert administered.issue() == "CONDITION_NOT_MET"
    assert administered.status().facts_by_feeder == {FEEDER: 2}


def test_another_callers_ticket_cannot_be_borrowed(administered: Administered) -> None:
    other = admin.Fact()
    other.CopyFrom(CHANGE)
    other.caller = "spiffe://dev.test/somebody/else"
    administered.put(POSTURE, other)
    assert administered.issue() == "FACT_MISSING"


def test_list_access_names_what_is_missing(administered: Administered) -> None:
    with administered.stub() as stub:
        (access,) = stub.ListAccess(pb.ListAccessRequest(), timeout=DEADLINE).accesses
    assert not access.scopes
    assert [(scope.name, list(scope.missing)) for scope in access.unavailable_scopes] == [
        (name, ["facts.change.approved", "facts.posture.status"]) for name in ("ledger.read", "ledger.write")
    ]


def test_a_wrong_fact_is_refused_with_all_of_the_call_and_named(administered: Administered) -> None:
    wrong = admin.Fact(type="posture", subject=SETTLER, values={"score": admin.FactValue(string_value="3")})
    unset = admin.Fact(type="posture", subject=SETTLER, values={"score": admin.FactValue()})
    with pytest.raises(grpc.RpcError) as caught:
        administered.put(POSTURE, wrong, unset)
    status = rpc_status.from_call(caught.value)
    bad = BadRequest()
    assert status is not None
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == ["facts[1].values.score", "facts[2].values.score"]
    assert administered.status().facts_by_feeder == {}


def test_a_feeder_tells_only_its_types(administered: Administered) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        administered.put(POSTURE, admin.Fact(type="risk", subject=SETTLER))
    assert reason_of(caught.value) == "RPC_NOT_ALLOWED"
    with pytest.raises(grpc.RpcError) as caught:
        administered.put()
    assert reason_of(caught.value) == "REQUEST_INVALID"


def test_a_file_of_facts_is_read_when_it_comes_and_forgotten_when_it_goes(administered: Administered) -> None:
    administered.put(CHANGE)
    file = administered.facts_folder / "posture.yaml"
    text = f"version: 1\nfacts:\n- {{type: posture, subject: '{SETTLER}', values: {{status: healthy}}}}\n"
    part = administered.facts_folder / ".posture"
    part.write_text(text, encoding="utf-8")
    part.rename(file)
    assert eventually(lambda: administered.issue() == "OK")
    file.unlink()
    assert eventually(lambda: administered.issue() == "FACT_MISSING")


def test_an_edit_takes_effect_by_itself_and_a_broken_one_is_told_in_the_status(administered: Administered) -> None:
    first = administered.status().current.digest
    administered.policy_file.write_text(POLICY + CONTEXT, encoding="utf-8")
    assert eventually(lambda: administered.issue() == "OK")
    administered.policy_file.write_text(POLICY.replace("grants:", "grantz:"), encoding="utf-8")
    status = eventually(lambda: administered.status() if administered.status().last_fault else None)
    assert "policy.yaml:" in status.last_fault
    assert administered.issue() == "OK"
    assert [generation.digest for generation in status.generations][1:] == [first]
    with administered.administer(OPERATOR) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE)
    assert reason_of(caught.value) == "POLICY_INVALID"
    assert "did you mean 'grants'" in caught.value.details()


def test_a_rollback_holds_until_a_reload(administered: Administered) -> None:
    first = administered.status().current.digest
    administered.policy_file.write_text(POLICY + CONTEXT, encoding="utf-8")
    with administered.administer(OPERATOR) as stub:
        second = stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE).current.digest
        assert administered.issue() == "OK"
        stub.RollbackPolicy(admin.RollbackPolicyRequest(digest=first), timeout=DEADLINE)
        assert administered.issue() == "FACT_MISSING"
        administered.policy_file.write_text(POLICY + CONTEXT + "# touched\n", encoding="utf-8")
        administered.issuer.wait_for("policy_files_not_followed")
        assert (administered.status().pinned, administered.status().current.digest) == (True, first)
        assert stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE).current.digest == second
        assert not administered.status().pinned
        with pytest.raises(grpc.RpcError) as caught:
            stub.RollbackPolicy(admin.RollbackPolicyRequest(digest="sha256:0"), timeout=DEADLINE)
    assert reason_of(caught.value) == "POLICY_UNKNOWN"
