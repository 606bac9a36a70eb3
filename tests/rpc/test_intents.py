"""Intents against a real issuer: what they give, and everything they must not."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from support.deployment import DEADLINE, reason_of
from support.eventually import eventually
from support.intending import (
    OPERATOR,
    OTHER,
    POLICY,
    REGISTRARS,
    SCHEDULER,
    SERVER,
    SETTLE,
    VIEWER,
    WORKER,
    Intending,
)

from agent_client.intents import parameters_digest
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import intent_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2 as issuer_pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = parameters_digest(SETTLE["parameters"])
READING = POLICY.replace(REGISTRARS, REGISTRARS.replace("[ledger.read, ledger.settle]", "[ledger.read]"))
OTHER_DIGEST = parameters_digest(b"{}")


@pytest.fixture
def intending(tmp_path: Path) -> Iterator[Intending]:
    with Intending(tmp_path) as deployment:
        yield deployment


def moment(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return timestamp


def restarted(intending: Intending) -> None:
    intending.issuer.signal(signal.SIGKILL)
    intending.issuer.wait()
    intending.issuer.start()


def test_an_intent_is_one_token_for_that_operation_alone(intending: Intending) -> None:
    intent = intending.register()
    assert (intent.state, intent.registrar, intent.consumer) == (
        pb.RegisteredIntent.STATE_REGISTERED,
        SCHEDULER,
        WORKER,
    )
    assert (intent.uses_left, intent.parameters_digest, intent.application) == (1, DIGEST, "batch")
    said = intending.claims(intent.name, parameters_digest=DIGEST)
    assert (said["sub"], said["client_id"]) == (SCHEDULER, WORKER)
    assert said["act"] == {"sub": WORKER, "iss": "spiffe://dev.test"}
    assert said["authorization_details"] == [
        {
            "type": "spiffe-issuer-intent",
            "intent": intent.name.removeprefix("intents/"),
            "operation": "settle-batch",
            "resource": "batch/17",
            "parameters_digest": DIGEST,
        }
    ]
    assert (said["txn"], said["scope"], said["application"]) == ("tx-1", "ledger.read ledger.settle", "batch")
    assert intending.outcome(intent.name) == "INTENT_NOT_OPEN"
    assert intending.state(intent.name) == "REDEEMED"


def test_each_step_is_in_the_record(intending: Intending) -> None:
    intent = intending.register()
    token = intending.redeem(intent.name).token
    [redeemed] = intending.administer("GetDecision", admin.GetDecisionRequest(name=token.token_id)).decisions
    assert (redeemed.caller, redeemed.grant_type) == (WORKER, "intent")
    origin = json.loads(redeemed.origin)
    assert (origin["kind"], f"intents/{origin['id']}", origin["subject"]) == ("intent", intent.name, SCHEDULER)
    registrars = intending.decisions(SCHEDULER)
    assert [each.outcome for each in registrars] == [admin.DECISION_OUTCOME_GRANTED] * 2  # at registration, and now
    assert not any(each.token_id for each in registrars)
    assert intent.decision_id in {each.decision_id for each in registrars}
    assert intending.get(intent.name, WORKER).redemptions == [token.decision_id]


class TestRegistering:
    def test_policy_must_let_the_registrar_have_it_itself(self, intending: Intending) -> None:
        assert intending.refusal(WORKER, consumer=OTHER, application="other") == "APPLICATION_NOT_ALLOWED"
        assert intending.refusal(SERVER) == "AUDIENCE_NOT_ALLOWED"
        assert intending.refusal(scopes=["ledger.read", "ledger.admin"]) == "SCOPE_NOT_ALLOWED"
        assert intending.refusal(scopes=["ledger.refund"]) == "APPROVAL_REQUIRED"
        intending.tell_risk(SCHEDULER, 90)
        assert intending.refusal() == "AUDIENCE_NOT_ALLOWED"
        refused = intending.decisions(SCHEDULER)
        assert {each.reason for each in refused} == {"SCOPE_NOT_ALLOWED", "APPROVAL_REQUIRED", "AUDIENCE_NOT_ALLOWED"}

    def test_who_may_have_it_in_another_way_may_not_register_it(self, intending: Intending) -> None:
        policy = POLICY.replace("grant_types: [intent]\n    max_ttl: 5m", "max_ttl: 5m")
        intending.put_in_force(policy)
        assert intending.refusal() == "GRANT_TYPE_NOT_ALLOWED"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"consumer": SCHEDULER}, "consumer"),
            ({"consumer": "worker"}, "consumer"),
            ({"consumer": "spiffe://dev.test/ns/batch/*"}, "consumer"),
            ({"operation": ""}, "operation"),
            ({"operation": "x" * 257}, "operation"),
            ({"resource": "\x1b[2J"}, "resource"),
            ({"transaction": "ü"}, "transaction"),
            ({"parameters": None, "parameters_digest": "sha256:0"}, "parameters_digest"),
            ({"parameters": b"x" * 65_537}, "parameters"),
            ({"uses": 101}, "uses"),
            ({"uses": -1}, "uses"),
            ({"request_id": "x" * 129}, "request_id"),
            ({"expire_time": moment(-1)}, "expire_time"),
            ({"expire_time": moment(25 * 3600)}, "expire_time"),
            ({"expire_time": moment(60), "not_before": moment(61)}, "expire_time"),
            ({"not_before": Timestamp(seconds=1 << 60)}, "not_before"),
            ({"scopes": []}, "scopes"),
        ],
    )
    def test_what_is_malformed_is_named(self, shared: Intending, changes: dict[str, object], field: str) -> None:
        request = pb.RegisterIntentRequest(**{name: value for name, value in (SETTLE | changes).items() if value != []})
        if changes.get("scopes") == []:
            request.ClearField("scopes")
        with shared.intents(SCHEDULER) as stub, pytest.raises(grpc.RpcError) as refused:
            stub.RegisterIntent(request, timeout=DEADLINE)
        status, bad = rpc_status.from_call(refused.value), BadRequest()
        assert any(detail.Unpack(bad) for detail in status.details), status
        assert field in {violation.field for violation in bad.field_violations}

    def test_the_same_request_is_the_same_intent(self, intending: Intending) -> None:
        with ThreadPoolExecutor(8) as threads:
            names = {each.name for each in threads.map(lambda _: intending.register(request_id="job-7"), range(16))}
        assert len(names) == 1
        restarted(intending)
        assert intending.register(request_id="job-7").name in names
        assert intending.refusal(request_id="job-7", operation="other") == "REQUEST_INVALID"
        assert intending.register(OTHER, scopes=["ledger.pay"], request_id="job-7").name not in names
        assert intending.register().name != intending.register().name

    def test_who_registers_without_end_is_stopped(self, tmp_path: Path) -> None:
        with Intending(tmp_path, intents={"max_open": 3}) as intending:
            names = [intending.register().name for _ in range(3)]
            assert intending.refusal() == "TOO_MANY_INTENTS"
            assert intending.refusal(consumer=OTHER) == "TOO_MANY_INTENTS"  # the registrar's own bound
            assert intending.refusal(OTHER, scopes=["ledger.pay"]) == "TOO_MANY_INTENTS"  # for this consumer
            assert intending.outcome(names[0]) == "OK"
            assert intending.refusal() == "OK"
            for _ in range(40):
                if (refusal := intending.refusal(consumer=OTHER)) == "TOO_MANY_INTENTS":
                    break
                intending.cancel(intending.listed(state=pb.RegisteredIntent.STATE_REGISTERED)[0])
            assert refusal == "TOO_MANY_INTENTS", "taking back does not make room without end"


class TestRedeeming:
    def test_only_its_consumer_redeems_it(self, intending: Intending) -> None:
        name = intending.register().name
        assert intending.outcome(name, SCHEDULER) == "INTENT_NOT_YOURS"
        for stranger in (OTHER, OPERATOR, VIEWER, SERVER):
            assert intending.outcome(name, stranger) == "INTENT_UNKNOWN"
        assert intending.outcome("intents/x", OTHER) == "INTENT_UNKNOWN"
        assert intending.outcome(name, OTHER, parameters_digest="x") == "REQUEST_INVALID"
        assert intending.outcome("intents/x", OTHER, parameters_digest="x") == "REQUEST_INVALID"
        assert intending.outcome(name) == "OK"
        tried = intending.decisions(OTHER)
        assert [each.reason for each in tried] == ["INTENT_UNKNOWN"], "who tries another's is recorded"

    def test_the_consumer_needs_a_grant_for_it(self, intending: Intending) -> None:
        intent = intending.register(consumer=SERVER)
        assert intending.outcome(intent.name, SERVER) == "AUDIENCE_NOT_ALLOWED"
        intent = intending.register()
        working = POLICY[POLICY.index("  - id: working") : POLICY.index("  - id: reading")]
        intending.put_in_force(POLICY.replace(working, working.replace("    grant_types: [intent]\n", "")))
        assert intending.outcome(intent.name) == "GRANT_TYPE_NOT_ALLOWED"
        assert intending.state(intent.name) == "REGISTERED", "nothing is used up without a token"

    def test_it_is_redeemed_within_its_window(self, intending: Intending) -> None:
        name = intending.register(not_before=moment(3600), expire_time=moment(7200)).name
        assert intending.outcome(name) == "INTENT_NOT_YET"
        assert intending.outcome(intending.register(expire_time=moment(5)).name) == "ORIGIN_EXPIRES_SOON"
        said = intending.claims(intending.register(expire_time=moment(30)).name)
        assert said["exp"] - said["iat"] <= 30, "no token outlives the window"

    def test_another_payload_is_refused_and_uses_nothing_up(self, intending: Intending) -> None:
        name = intending.register().name
        assert intending.outcome(name, parameters_digest=OTHER_DIGEST) == "INTENT_PAYLOAD_DIFFERS"
        assert intending.outcome(name, parameters_digest=DIGEST) == "OK"
        without = intending.register(parameters=None).name
        assert intending.outcome(without, parameters_digest=DIGEST) == "INTENT_PAYLOAD_DIFFERS"

    def test_wider_scopes_are_refused_and_narrower_ones_are_not(self, intending: Intending) -> None:
        name = intending.register(scopes=["ledger.settle"]).name
        wider = ["ledger.settle", "ledger.read"]  # which both may have themselves
        assert intending.outcome(name, scopes=wider) == "SCOPE_NOT_ALLOWED"
        assert intending.claims(name, scopes=wider, allow_partial=True)["scope"] == "ledger.settle"
        assert intending.claims(intending.register().name, scopes=["ledger.read"])["scope"] == "ledger.read"

    def test_it_lives_no_longer_than_any_of_the_three_lets_it(self, intending: Intending) -> None:
        for registered, asked, expected in ((None, None, 180), (100, None, 100), (None, 50, 50), (100, 150, 100)):
            name = intending.register(ttl=Duration(seconds=registered) if registered else None).name
            said = intending.claims(name, ttl=Duration(seconds=asked) if asked else None)
            assert expected - 1 <= said["exp"] - said["iat"] <= expected, (registered, asked)
        intent = intending.register()
        intending.put_in_force(POLICY.replace("max_ttl: 5m", "max_ttl: 40s"))
        said = intending.claims(intent.name)
        assert said["exp"] - said["iat"] <= 40, "what the registrar could have now"
        intent = intending.register()
        intending.put_in_force(POLICY)
        said = intending.claims(intent.name)
        assert said["exp"] - said["iat"] <= 40, "what it could have then"

    def test_a_token_is_bound_when_either_side_wants_it(self, intending: Intending) -> None:
        by_registrar = intending.register(proof_binding=issuer_pb.PROOF_BINDING_TLS_CERTIFICATE)
        assert by_registrar.bind_certificate
        assert "cnf" in intending.claims(by_registrar.name)
        plain = intending.register(uses=2).name
        assert "cnf" not in intending.claims(plain)
        assert "cnf" in intending.claims(plain, proof_binding=issuer_pb.PROOF_BINDING_TLS_CERTIFICATE)

    def test_it_is_redeemed_as_often_as_it_says(self, intending: Intending) -> None:
        intent = intending.register(uses=3)
        assert [intending.outcome(intent.name) for _ in range(4)] == ["OK"] * 3 + ["INTENT_NOT_OPEN"]
        assert len(intending.get(intent.name).redemptions) == 3


class TestLosingTheRight:
    def test_after_the_registrar_lost_the_right(self, intending: Intending) -> None:
        intent, other = intending.register(), intending.register(scopes=["ledger.pay"])
        intending.put_in_force(POLICY.replace(REGISTRARS, ""))
        assert intending.outcome(intent.name) == "REGISTRAR_NOT_ALLOWED"
        assert intending.outcome(other.name) == "OK", "by another grant"
        last = intending.decisions(SCHEDULER)
        assert any(each.reason == "SCOPE_NOT_ALLOWED" for each in last), "why is in the record"
        intending.put_in_force(POLICY)
        assert intending.outcome(intent.name) == "OK", "and nothing was used up"

    def test_after_the_registrar_lost_a_part_of_it(self, intending: Intending) -> None:
        name = intending.register().name
        intending.put_in_force(READING)
        assert intending.outcome(name) == "SCOPE_NOT_ALLOWED"
        assert intending.claims(name, allow_partial=True)["scope"] == "ledger.read"

    def test_what_the_registrar_gained_since_is_not_in_it(self, intending: Intending) -> None:
        intending.put_in_force(READING)
        name = intending.register(scopes=["ledger.read"]).name
        intending.put_in_force(POLICY)
        assert intending.outcome(name, scopes=["ledger.settle"]) == "SCOPE_NOT_ALLOWED"

    def test_after_the_risk_of_either_rose(self, intending: Intending) -> None:
        name = intending.register().name
        intending.tell_risk(SCHEDULER, 90)
        assert intending.outcome(name) == "REGISTRAR_NOT_ALLOWED"
        intending.tell_risk(SCHEDULER, 10)
        intending.tell_risk(WORKER, 90)
        assert intending.outcome(name) == "AUDIENCE_NOT_ALLOWED"
        intending.tell_risk(WORKER, 10)
        assert intending.outcome(name) == "OK"

    def test_the_registrar_acts_for_another_application_now(self, intending: Intending) -> None:
        name = intending.register().name
        renamed = REGISTRARS.replace("application: batch", "application: other")
        intending.put_in_force(POLICY.replace(REGISTRARS, renamed))
        assert intending.outcome(name) == "REGISTRAR_NOT_ALLOWED"

    def test_after_the_registrar_was_revoked(self, intending: Intending) -> None:
        intent = intending.register(uses=3)
        token = intending.redeem(intent.name).token.token
        assert intending.is_active(token)
        made = intending.revoke(workload=SCHEDULER)
        assert made.revocation.tokens_hit == 1
        assert intending.outcome(intent.name) == "REVOKED"
        assert not intending.is_active(token)
        assert intending.state(intent.name) == "REVOKED"
        lift = admin.LiftRevocationRequest(revocation_id=made.revocation.revocation_id)
        intending.administer("LiftRevocation", lift)
        assert intending.outcome(intent.name) == "REVOKED", "what it registered before stays dead"
        restarted(intending)
        assert intending.outcome(intent.name) == "REVOKED"
        assert intending.outcome(intending.register().name) == "OK"

    @pytest.mark.parametrize(
        "selector", [{"basis": "actor/" + WORKER}, {"basis": "subject/" + SCHEDULER}, {"workload": WORKER}]
    )
    def test_after_other_revocations(self, intending: Intending, selector: dict[str, str]) -> None:
        intent = intending.register(uses=2)
        token = intending.redeem(intent.name).token.token
        intending.revoke(**selector)
        assert intending.outcome(intent.name) == "REVOKED"
        assert not intending.is_active(token)

    def test_by_the_intent(self, intending: Intending) -> None:
        intent, other = intending.register(uses=2), intending.register()
        token = intending.redeem(intent.name).token.token
        intending.revoke(basis=f"intent/{intent.name.removeprefix('intents/')}")
        assert intending.outcome(intent.name) == "REVOKED"
        assert not intending.is_active(token)
        assert intending.outcome(other.name) == "OK"

    def test_after_it_was_taken_back(self, intending: Intending) -> None:
        intent = intending.register()
        for stranger, reason in ((WORKER, "INTENT_NOT_YOURS"), (OTHER, "INTENT_UNKNOWN"), (VIEWER, "INTENT_NOT_YOURS")):
            with pytest.raises(grpc.RpcError) as refused:
                intending.cancel(intent.name, stranger)
            assert reason_of(refused.value) == reason
        taken_back = intending.cancel(intent.name, reason="a mistake")
        assert (taken_back.state, taken_back.ended_reason) == (pb.RegisteredIntent.STATE_CANCELLED, "a mistake")
        assert intending.cancel(intent.name, reason="a mistake") == taken_back, "the same again changes nothing"
        assert intending.outcome(intent.name) == "INTENT_NOT_OPEN"
        assert intending.cancel(intending.register().name, OPERATOR).ended_by == OPERATOR


def test_of_a_thousand_who_redeem_it_at_once_one_does(intending: Intending) -> None:
    name = intending.register().name
    request = pb.RedeemIntentRequest(name=name)
    with ExitStack() as stack:
        stubs = [stack.enter_context(intending.intents()) for _ in range(5)]  # each carries 256 calls at once
        calls = [stub.RedeemIntent.future(request, timeout=60) for _ in range(200) for stub in stubs]
        refused = [reason_of(call.exception()) for call in calls if call.exception() is not None]
    assert len(calls) - len(refused) == 1
    assert set(refused) <= {"INTENT_NOT_OPEN", "RATE_LIMITED"}
    assert intending.state(name) == "REDEEMED"
    assert sum(bool(each.token_id) for each in intending.decisions(WORKER)) == 1


def test_everything_holds_after_kill_9(intending: Intending) -> None:
    redeemed, waiting, cancelled = (intending.register().name for _ in range(3))
    several = intending.register(uses=2).name
    intending.redeem(redeemed)
    intending.redeem(several)
    intending.cancel(cancelled)
    restarted(intending)
    outcomes = [intending.outcome(name) for name in (redeemed, cancelled, waiting, several, several)]
    assert outcomes == ["INTENT_NOT_OPEN", "INTENT_NOT_OPEN", "OK", "OK", "INTENT_NOT_OPEN"]


def test_killed_while_many_redeem_it_it_is_redeemed_once_at_most(intending: Intending) -> None:
    for _ in range(3):
        name = intending.register().name
        with intending.intents() as stub:
            calls = [stub.RedeemIntent.future(pb.RedeemIntentRequest(name=name), timeout=10) for _ in range(50)]
            intending.issuer.signal(signal.SIGKILL)
            tokens = sum(call.exception() is None for call in calls)
        intending.issuer.wait()
        intending.issuer.start()
        tokens += intending.outcome(name) == "OK"
        assert tokens <= 1
        assert intending.outcome(name) == "INTENT_NOT_OPEN"


class TestLooking:
    def test_who_is_not_concerned_sees_nothing(self, intending: Intending) -> None:
        name = intending.register().name
        for caller in (SCHEDULER, WORKER, VIEWER, OPERATOR):
            assert intending.get(name, caller).name == name
        with pytest.raises(grpc.RpcError) as refused:
            intending.get(name, OTHER)
        assert reason_of(refused.value) == "INTENT_UNKNOWN"

    def test_lists_are_of_what_concerns_the_caller(self, intending: Intending) -> None:
        first, second = intending.register().name, intending.register(consumer=OTHER, scopes=["ledger.pay"]).name
        intending.cancel(first)
        view = pb.ListIntentsRequest
        assert intending.listed() == [second, first]
        assert intending.listed(WORKER) == [first]
        assert intending.listed(OTHER) == [second]
        assert intending.listed(SERVER) == []
        assert intending.listed(VIEWER, view=view.VIEW_ALL) == [second, first]
        assert intending.listed(state=pb.RegisteredIntent.STATE_CANCELLED) == [first]
        assert intending.listed(page_size=1) == [second]
        assert intending.listed(page_size=1, page_token=second) == [first]
        with pytest.raises(grpc.RpcError) as refused:
            intending.listed(view=view.VIEW_ALL)
        assert reason_of(refused.value) == "RPC_NOT_ALLOWED"


def test_what_nobody_redeems_expires_and_is_told_once(intending: Intending) -> None:
    name = intending.register(expire_time=moment(1), uses=2).name
    redeemed = intending.register().name
    intending.redeem(redeemed)
    assert eventually(lambda: intending.get(name).HasField("end_time"), within=20)
    expired = intending.get(name)
    assert (expired.state, expired.uses_left, expired.ended_by) == (pb.RegisteredIntent.STATE_EXPIRED, 2, "")
    assert intending.outcome(name) == "INTENT_NOT_OPEN"
    view = pb.ListIntentsRequest.VIEW_ALL
    assert intending.listed(VIEWER, view=view, state=pb.RegisteredIntent.STATE_EXPIRED) == [name]
    restarted(intending)
    assert intending.get(name) == expired


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intending]:
    with Intending(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment
