"""What a workload reads of a request for approval."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from agent_client.approvals import ApprovalState, approval_request
from agent_client.errors import AnswerRejected
from issuer_api.v1 import approval_service_pb2 as pb

NAME = "approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"


def answer(**changes: object) -> pb.ApprovalRequest:
    members: dict[str, object] = {"name": NAME, "state": pb.ApprovalRequest.STATE_PENDING, **changes}
    return pb.ApprovalRequest(**members)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [each for each in pb.ApprovalRequest.State.values() if each])
def test_every_state_has_its_name(state: pb.ApprovalRequest.State.ValueType) -> None:
    found = approval_request(answer(state=state), NAME)
    assert found.approved is (found.state is ApprovalState.APPROVED)
    assert found.decided is (found.state is not ApprovalState.PENDING)


@pytest.mark.parametrize(
    "odd",
    [
        {"name": ""},
        {"name": NAME + "x"},
        {"state": pb.ApprovalRequest.STATE_UNSPECIFIED},
        {"state": 99},
        {"expire_time": Timestamp(seconds=1 << 60)},
    ],
)
def test_an_answer_that_is_about_another_or_unreadable_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises(AnswerRejected):
        approval_request(answer(**odd), NAME)
