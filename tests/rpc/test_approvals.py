"""Approvals against a real issuer: what they give, and everything they must not."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.approving import ALICE, BOB, CAROL, OPERATOR, PAYOUT, POLICY, REFUND, VIEWER, Approvable
from support.deployment import DEADLINE, LEDGER, READER, SETTLER, info_of, reason_of

from issuer.approving import MAX_OPEN
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import approval_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2 as issuer_pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def approvable(tmp_path: Path) -> Iterator[Approvable]:
    with Approvable(tmp_path) as deployment:
        yield deployment


def changed(request: issuer_pb.IssueTokenRequest, **fields: object) -> issuer_pb.IssueTokenRequest:
    other = issuer_pb.IssueTokenRequest()
    other.CopyFrom(request)
    for name, value in fields.items():
        if name == "scopes":
            other.ClearField("scopes")
        other.MergeFrom(issuer_pb.IssueTokenRequest(**{name: value}))  # type: ignore[arg-type]
    return other


def test_one_approval_is_one_token(approvable: Approvable) -> None:
    assert approvable.outcome() == "APPROVAL_REQUIRED"
    asked = approvable.ask(why="customer 17 was charged twice")
    assert approvable.outcome() == "APPROVAL_REQUIRED"
    approved = approvable.answer("Approve", asked.name, reason="seen the ticket")
    assert approved.state == pb.ApprovalRequest.STATE_APPROVED
    assert (approved.reason, approved.given[0].approver, approved.given[0].reason, approved.development) == (
        "customer 17 was charged twice", ALICE, "seen the ticket", True,
    )  # fmt: skip
    token = approvable.token()
    assert list(token.scopes) == ["ledger.read", "ledger.refund"]
    assert approvable.outcome() == "APPROVAL_REQUIRED"
    assert approvable.state(asked.name) == "USED_UP"
    decision = approvable.administer("GetDecision", admin.GetDecisionRequest(name=token.token_id)).decisions[0]
    assert asked.name.rpartition("/")[2] in decision.approval


def test_the_refusal_names_the_request_that_is_open(approvable: Approvable) -> None:
    with approvable.stub() as stub:
        for request, named in ((REFUND, False), (changed(REFUND, request_approval=True), True), (REFUND, True)):
            with pytest.raises(grpc.RpcError) as refused:
                stub.IssueToken(request, timeout=DEADLINE)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            metadata = info_of(refused.value).metadata
            assert ("approvalRequest" in metadata) is named
    assert approvable.state(metadata["approvalRequest"]) == "PENDING"
    assert metadata["digest"].startswith("sha256:")
    assert metadata["expireTime"].endswith("Z")
    batch = issuer_pb.BatchIssueTokensRequest(requests=[changed(PAYOUT, request_approval=True, approval_reason="rent")])
    with approvable.stub() as stub:
        stub.BatchIssueTokens(batch, timeout=DEADLINE)
    with approvable.approvals(SETTLER) as mine:
        listed = mine.ListApprovalRequests(pb.ListApprovalRequestsRequest(), timeout=DEADLINE).approval_requests
    assert [each.reason for each in listed] == ["rent", ""]


def test_the_same_asked_again_is_the_same_request(approvable: Approvable) -> None:
    with ThreadPoolExecutor(8) as threads:
        names = {asked.name for asked in threads.map(lambda _: approvable.ask(), range(16))}
    assert len(names) == 1
    assert approvable.ask(changed(REFUND, allow_partial=True)).name in names
    assert approvable.ask(changed(REFUND, scopes=["ledger.refund"])).name not in names
    assert approvable.ask(by=READER).name not in names


@pytest.mark.parametrize(
    "other",
    [
        {"scopes": ["ledger.refund"]},
        {"scopes": ["ledger.read", "ledger.refund", "ledger.payout"]},
        {"ttl": Duration(seconds=20)},
        {"intent": issuer_pb.Intent(operation="other")},
        {"proof_binding": issuer_pb.PROOF_BINDING_TLS_CERTIFICATE},
    ],
)
def test_an_approval_is_for_exactly_what_was_asked(approvable: Approvable, other: dict[str, object]) -> None:
    approvable.answer("Approve", approvable.ask().name)
    assert approvable.outcome(changed(REFUND, **other)) == "APPROVAL_REQUIRED"
    assert approvable.outcome(by=READER) == "APPROVAL_REQUIRED"
    assert approvable.outcome() == "OK"


def test_a_changed_policy_needs_new_approvals(approvable: Approvable) -> None:
    approvable.answer("Approve", approvable.ask().name)
    approvable.policy_file.write_text(POLICY.replace("max_ttl: 10m", "max_ttl: 9m"), encoding="utf-8")
    approvable.administer("ReloadPolicy", admin.ReloadPolicyRequest())
    assert approvable.outcome() == "APPROVAL_REQUIRED"
    with approvable.stub() as stub, pytest.raises(grpc.RpcError) as refused:
        stub.IssueToken(REFUND, timeout=DEADLINE)
    assert "approvalRequest" not in info_of(refused.value).metadata
    again = approvable.ask()
    approvable.answer("Approve", again.name)
    assert approvable.outcome() == "OK"


def test_a_risk_that_rose_after_the_approval_refuses(approvable: Approvable) -> None:
    asked = approvable.ask()
    approvable.answer("Approve", asked.name)
    approvable.tell_risk(90)
    assert approvable.outcome() == "AUDIENCE_NOT_ALLOWED"
    assert approvable.state(asked.name) == "APPROVED"
    approvable.tell_risk(10)
    assert approvable.outcome() == "OK"


def test_a_revocation_stops_what_was_approved(approvable: Approvable) -> None:
    approvable.answer("Approve", approvable.ask().name)
    selector = admin.TokenSelector(workload=SETTLER)
    approvable.administer("Revoke", admin.RevokeRequest(selector=selector, reason="INC-7"))
    assert approvable.outcome() == "REVOKED"
    with pytest.raises(grpc.RpcError) as refused:
        approvable.ask(PAYOUT)
    assert reason_of(refused.value) == "REVOKED"


def test_nobody_approves_what_is_theirs_or_without_the_right(approvable: Approvable) -> None:
    asked = approvable.ask()
    assert approvable.refusal("Approve", asked.name, SETTLER) == "APPROVER_NOT_ALLOWED"
    assert approvable.refusal("Approve", asked.name, CAROL) == "APPROVER_NOT_ALLOWED"  # owns the grant
    for stranger in (READER, "spiffe://dev.test/user/alice/laptop"):
        for method in ("Approve", "Deny", "Cancel"):
            assert approvable.refusal(method, asked.name, stranger) == "APPROVAL_UNKNOWN"
    assert approvable.refusal("Approve", asked.name, OPERATOR) == "APPROVER_NOT_ALLOWED"
    assert approvable.refusal("Cancel", asked.name, ALICE) == "APPROVER_NOT_ALLOWED"
    assert approvable.state(asked.name) == "PENDING"


def test_a_quorum_is_of_persons_and_each_use_counts(approvable: Approvable) -> None:
    asked = approvable.ask(PAYOUT)
    assert approvable.answer("Approve", asked.name).state == pb.ApprovalRequest.STATE_PENDING
    assert len(approvable.answer("Approve", asked.name).given) == 1  # the same answer again is the same answer
    assert approvable.refusal("Approve", asked.name, reason="once more") == "APPROVAL_NOT_OPEN"
    assert approvable.outcome(PAYOUT) == "APPROVAL_REQUIRED"
    assert approvable.answer("Approve", asked.name, BOB, ttl=Duration(seconds=30)).uses_left == 3
    batch = issuer_pb.BatchIssueTokensRequest(requests=[PAYOUT] * 5)
    with approvable.stub() as stub:
        results = stub.BatchIssueTokens(batch, timeout=DEADLINE).results
    assert [result.HasField("response") for result in results] == [True] * 3 + [False] * 2
    assert approvable.state(asked.name) == "USED_UP"


def test_an_approver_narrows_and_never_widens(approvable: Approvable) -> None:
    both = issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund", "ledger.payout"])
    asked = approvable.ask(both)
    for wider in ({"scopes": ["ledger.read"]}, {"ttl": Duration(seconds=121)}, {"digest": "sha256:0"}):
        assert approvable.refusal("Approve", asked.name, **wider) == "REQUEST_INVALID"
    approved = approvable.answer(
        "Approve", asked.name, scopes=["ledger.refund"], ttl=Duration(seconds=20), digest=asked.digest
    )
    assert approved.state == pb.ApprovalRequest.STATE_APPROVED
    assert approvable.outcome(both) == "APPROVAL_REQUIRED"
    token = approvable.token(changed(both, allow_partial=True))
    assert (list(token.scopes), list(token.refused_scopes)) == (["ledger.refund"], ["ledger.payout"])


@pytest.mark.parametrize("wanted", [REFUND, PAYOUT])
def test_of_many_who_use_one_approval_at_once_as_many_as_allowed_do(
    approvable: Approvable, wanted: issuer_pb.IssueTokenRequest
) -> None:
    asked = approvable.ask(wanted)
    approvable.answer("Approve", asked.name)
    allowed = 1
    if wanted is PAYOUT:
        approvable.answer("Approve", asked.name, BOB)
        allowed = 3
    with approvable.stub() as stub:
        calls = [stub.IssueToken.future(wanted, timeout=DEADLINE) for _ in range(100)]
        refusals = [reason_of(call.exception()) for call in calls if call.exception() is not None]
    assert len(calls) - len(refusals) <= allowed
    assert set(refusals) <= {"APPROVAL_REQUIRED", "LEDGER_UNAVAILABLE"}
    while approvable.outcome(wanted) == "OK":
        refusals.pop()
    assert len(calls) - len(refusals) == allowed
    assert approvable.state(asked.name) == "USED_UP"


def test_approve_deny_and_cancel_at_once_come_out_as_one_of_them(approvable: Approvable) -> None:
    for number in range(5):
        asked = approvable.ask(changed(REFUND, ttl=Duration(seconds=30 + number)))
        steps = (("Approve", ALICE), ("Approve", BOB), ("Deny", BOB), ("Cancel", SETTLER))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda step, name=asked.name: approvable.refusal(step[0], name, step[1]), steps))
        state = approvable.state(asked.name)
        assert state in {"DENIED", "CANCELLED", "REVOKED"}
        wanted = changed(REFUND, ttl=Duration(seconds=30 + number))
        assert approvable.outcome(wanted) == "APPROVAL_REQUIRED"


def restarted(approvable: Approvable) -> None:
    approvable.issuer.signal(signal.SIGKILL)
    approvable.issuer.wait()
    approvable.issuer.start()


def test_everything_holds_after_kill_9(approvable: Approvable) -> None:
    first, second = approvable.ask(), approvable.ask(PAYOUT)
    approvable.answer("Approve", second.name)
    restarted(approvable)
    assert approvable.ask().name == first.name
    approvable.answer("Approve", first.name, BOB)
    assert approvable.refusal("Approve", second.name, reason="once more") == "APPROVAL_NOT_OPEN"
    approvable.answer("Approve", second.name, BOB)
    assert approvable.outcome(PAYOUT) == "OK"
    approvable.token()
    restarted(approvable)
    assert approvable.outcome() == "APPROVAL_REQUIRED"
    assert [approvable.outcome(PAYOUT) for _ in range(3)] == ["OK", "OK", "APPROVAL_REQUIRED"]


def test_one_no_is_enough_and_is_not_asked_again(approvable: Approvable) -> None:
    asked = approvable.ask()
    assert approvable.answer("Deny", asked.name, reason="no").ended_by == ALICE
    again = approvable.ask()
    assert (again.name, again.state, again.ended_reason) == (asked.name, pb.ApprovalRequest.STATE_DENIED, "no")
    assert approvable.refusal("Approve", asked.name, BOB) == "APPROVAL_NOT_OPEN"


def test_what_was_approved_is_taken_back(approvable: Approvable) -> None:
    for method, by in (("Deny", BOB), ("Cancel", SETTLER)):
        asked = approvable.ask()
        approvable.answer("Approve", asked.name)
        assert approvable.answer(method, asked.name, by).state == pb.ApprovalRequest.STATE_REVOKED
        assert approvable.outcome() == "APPROVAL_REQUIRED"


def test_who_does_not_ask_and_may_not_answer_sees_nothing(approvable: Approvable) -> None:
    asked = approvable.ask()
    for stranger, seen in ((READER, False), (VIEWER, True), (ALICE, True), (CAROL, True), (SETTLER, True)):
        with approvable.approvals(stranger) as stub:
            try:
                found = stub.GetApprovalRequest(pb.GetApprovalRequestRequest(name=asked.name), timeout=DEADLINE)
                assert seen, stranger
                assert found.approval_request.name == asked.name
            except grpc.RpcError as error:
                assert (reason_of(error), seen) == ("APPROVAL_UNKNOWN", False), stranger  # noqa: PT017 - either way


def test_a_card_tells_approvers_what_else_the_identity_holds(approvable: Approvable) -> None:
    approvable.token(issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"]))
    get = pb.GetApprovalRequestRequest(name=approvable.ask().name)
    with approvable.approvals() as stub, approvable.approvals(SETTLER) as own:
        assert stub.GetApprovalRequest(get, timeout=DEADLINE).living_tokens == 1
        assert own.GetApprovalRequest(get, timeout=DEADLINE).living_tokens == 0


def test_lists_are_of_what_concerns_the_caller(approvable: Approvable) -> None:
    mine, others = approvable.ask(), approvable.ask(by=READER)
    view = pb.ListApprovalRequestsRequest
    for caller, wanted, expected in (
        (SETTLER, view.VIEW_MINE, [mine.name]),
        (SETTLER, view.VIEW_TO_DECIDE, []),
        (ALICE, view.VIEW_TO_DECIDE, [others.name, mine.name]),
        (CAROL, view.VIEW_TO_DECIDE, []),
        (ALICE, view.VIEW_MINE, []),
        (VIEWER, view.VIEW_ALL, [others.name, mine.name]),
    ):
        with approvable.approvals(caller) as stub:
            listed = stub.ListApprovalRequests(view(view=wanted), timeout=DEADLINE).approval_requests
        assert [each.name for each in listed] == expected, (caller, wanted)
    with approvable.approvals(ALICE) as stub:
        first = stub.ListApprovalRequests(view(view=view.VIEW_TO_DECIDE, page_size=1), timeout=DEADLINE)
        rest = view(view=view.VIEW_TO_DECIDE, page_size=1, page_token=first.next_page_token)
        assert [each.name for each in stub.ListApprovalRequests(rest, timeout=DEADLINE).approval_requests] == [
            mine.name
        ]
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListApprovalRequests(view(view=view.VIEW_ALL), timeout=DEADLINE)
        assert reason_of(refused.value) == "RPC_NOT_ALLOWED"


def test_who_waits_is_told(approvable: Approvable) -> None:
    asked = approvable.ask(PAYOUT)
    with approvable.approvals(SETTLER) as stub:
        told = stub.WaitApprovalRequest(pb.WaitApprovalRequestRequest(name=asked.name), timeout=DEADLINE)
        assert next(told).approval_request.state == pb.ApprovalRequest.STATE_PENDING
        approvable.answer("Approve", asked.name)
        assert len(next(told).approval_request.given) == 1
        approvable.answer("Approve", asked.name, BOB)
        assert next(told).approval_request.state == pb.ApprovalRequest.STATE_APPROVED
        assert list(told) == []


def test_a_caller_asks_for_a_bounded_number_of_approvals(approvable: Approvable) -> None:
    for number in range(MAX_OPEN):
        approvable.ask(changed(REFUND, ttl=Duration(seconds=20 + number)))
    with pytest.raises(grpc.RpcError) as refused:
        approvable.ask()
    assert reason_of(refused.value) == "TOO_MANY_APPROVALS"
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert approvable.ask(by=READER).state == pb.ApprovalRequest.STATE_PENDING


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"]), "APPROVAL_NOT_OPEN"),
        (issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund", "other"]), "SCOPE_NOT_ALLOWED"),
        (issuer_pb.IssueTokenRequest(audience="https://x", scopes=["ledger.refund"]), "AUDIENCE_NOT_ALLOWED"),
        (issuer_pb.IssueTokenRequest(), "REQUEST_INVALID"),
    ],
)
def test_what_no_approval_helps_is_not_asked(
    approvable: Approvable, token: issuer_pb.IssueTokenRequest, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        approvable.ask(token)
    assert reason_of(refused.value) == reason


def test_texts_and_names_are_bounded(approvable: Approvable) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        approvable.ask(why="x" * 513)
    assert reason_of(refused.value) == "REQUEST_INVALID"
    for name in ("", "approvalRequests/", "x/y", "approvalRequests/" + "x" * 200):
        assert approvable.refusal("Approve", name) == "REQUEST_INVALID"
    assert approvable.refusal("Approve", "approvalRequests/x") == "APPROVAL_UNKNOWN"
    assert approvable.refusal("Deny", approvable.ask().name, reason="\x1b[2J") == "REQUEST_INVALID"


def test_a_program_is_told_of_each_step(tmp_path: Path) -> None:
    told: Queue[dict[str, str]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["content-length"])))["data"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef", encoding="utf-8")
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        webhook: dict[str, object] = {
            "webhook_url": f"http://127.0.0.1:{server.server_port}/",
            "webhook_secret_file": str(secret),
        }
        with Approvable(tmp_path, approvals=webhook) as deployment:
            asked = deployment.ask(why="INC-7")
            first = told.get(timeout=30)
            assert (first["name"], first["state"], first["reason"]) == (asked.name, "pending", "INC-7")
            deployment.answer("Deny", asked.name, reason="no")
            assert told.get(timeout=30)["ended_reason"] == "no"
        server.shutdown()
        thread.join()
