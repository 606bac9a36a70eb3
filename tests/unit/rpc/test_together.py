"""Calls that are answered together, beside the same calls one by one: whatever comes of them is the same."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from support.approving import ALICE, REFUND
from support.approving import POLICY as APPROVED_POLICY
from support.deployment import LEDGER, POLICY, READER, REQUEST, SETTLER
from support.eventually import eventually_true
from support.in_process import HOUR, NOW, InProcess, calls_told, in_process
from support.ledgers import revoking
from support.shedding import Connection, Transport

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Selector
from issuer.rpc import plain_request
from issuer.rpc.together import ISSUE_TOKEN
from issuer.rpc.turns import HOLD_SECONDS, TICK_SECONDS
from issuer_api.v1 import approval_service_pb2 as approvals
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from issuer.observing import Step
    from issuer.rpc.together import Asking

EACH_TIME = frozenset({"token_id", "token_sha256", "duration_ms", "timestamp", "exception"})
"""Fields of a log line that are never twice the same; ids are not either, and tracebacks tell of the code."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ROUNDS = 50
BATCH = "issuer_api.v1.IssuerService/BatchIssueTokens"
NOT_GRANTED = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"])


async def nothing(_: InProcess) -> None:
    """Leave the issuer as it is."""


async def revoked(issuer: InProcess) -> None:
    await issuer.keeping.ledger.write(revoking(Selector(workload=parse_pattern(SETTLER))))


async def ledger_away(issuer: InProcess) -> None:
    await issuer.keeping.ledger.close()


async def policy_away(issuer: InProcess) -> None:
    issuer.policies.is_away = True


async def key_away(issuer: InProcess) -> None:
    issuer.keys.fault = TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the signing key cannot be used")


async def defect(issuer: InProcess) -> None:
    issuer.keys.fault = ZeroDivisionError("a defect")


async def expired(issuer: InProcess) -> None:
    issuer.clock.time = NOW + HOUR + timedelta(seconds=1)


async def identity_away(issuer: InProcess) -> None:
    issuer.bundles.unavailable = TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, "no SVID")


async def bundle_changed(issuer: InProcess) -> None:
    issuer.bundles.change(dev_test=())


async def full(issuer: InProcess) -> None:
    for _ in range(issuer.config.server.max_calls):
        issuer.turns.enter()


async def no_turn(issuer: InProcess) -> None:
    await issuer.turns.take(issuer.verifier.verify(issuer.leaf(READER), None, NOW).spiffe_id, 1, None)


@dataclass(frozen=True)
class Situation:
    """What the issuer is asked, and how things stand with it.

    Attributes:
        reason: Why there is no token in the end; ``OK`` where there is one.
        request: What is asked, by the settler.
        prepare: Makes things stand so, after the caller was verified once.
        times: How often it is asked, one call after the other.
        taken: Whether the calls are answered together; the pipeline gets them otherwise.
    """

    reason: str
    request: pb.IssueTokenRequest = field(default_factory=lambda: REQUEST)
    prepare: Callable[[InProcess], Awaitable[None]] = nothing
    times: int = 1
    taken: bool = True
    method: str = ISSUE_TOKEN
    within: float | None = None
    known: bool = True
    policy: str = POLICY
    sections: dict[str, dict[str, object]] = field(default_factory=dict)


WITH_FACTS = (
    POLICY.replace(
        "grants:",
        "facts: [{name: risk, subject: caller, max_age: 10m, fields: {score: int}}]\ngrants:",
    )
    + "    when: facts.risk.score < 80\n"
)
OUTSIDE: dict[str, dict[str, object]] = {
    "facts": {"authzen": [{"name": "nobody", "url": "http://127.0.0.1:9", "types": ["risk"]}]}
}
IN_A_WINDOW = pb.IssueTokenRequest(access="accessWindows/unknown", audience=LEDGER, scopes=["ledger.read"])
FOR_AN_INTENT = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], intent=pb.Intent(operation="x"))
SITUATIONS = {
    "good": Situation("OK"),
    "good, and again": Situation("OK", times=3),
    "a caller who would wait long enough": Situation("OK", within=20),
    "a caller who is in a hurry": Situation("OK", within=1, taken=False),
    "validated only": Situation(
        "OK", pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], validate_only=True)
    ),
    "not granted": Situation("SCOPE_NOT_ALLOWED", NOT_GRANTED),
    "an unknown audience": Situation("AUDIENCE_NOT_ALLOWED", pb.IssueTokenRequest(audience="https://x", scopes=["a"])),
    "partly granted": Situation(
        "OK", pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read", "x"], allow_partial=True)
    ),
    "too short a ttl": Situation(
        "REQUEST_INVALID", pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], ttl=Duration(seconds=5))
    ),
    "without a scope": Situation("REQUEST_INVALID", pb.IssueTokenRequest(audience=LEDGER), taken=False),
    "a long message": Situation(
        "REQUEST_INVALID", pb.IssueTokenRequest(audience=LEDGER, scopes=["x" * 2000]), taken=False
    ),
    "for an intent": Situation("OK", FOR_AN_INTENT, taken=False),
    "in a window that is not there": Situation("ACCESS_UNKNOWN", IN_A_WINDOW, taken=False),
    "a caller nobody knows": Situation("OK", known=False, taken=False),
    "an SVID that has expired": Situation("SVID_EXPIRED", prepare=expired, taken=False),
    "a bundle without its authority": Situation("TRUST_BUNDLE_EMPTY", prepare=bundle_changed, taken=False),
    "the issuer without an SVID": Situation("IDENTITY_UNAVAILABLE", prepare=identity_away, taken=False),
    "a revoked caller": Situation("REVOKED", prepare=revoked),
    "the ledger away": Situation("LEDGER_UNAVAILABLE", prepare=ledger_away),
    "the policy away": Situation("POLICY_NOT_LOADED", prepare=policy_away),
    "the key away": Situation("SIGNER_UNAVAILABLE", prepare=key_away),
    "a defect": Situation("INTERNAL", prepare=defect),
    "a fact that nobody told": Situation("FACT_MISSING", policy=WITH_FACTS),
    "a fact that is asked for outside": Situation("FACT_MISSING", policy=WITH_FACTS, sections=OUTSIDE, taken=False),
    "a fact that is asked for outside, for others": Situation("OK", sections=OUTSIDE),
    "no room": Situation("RATE_LIMITED", prepare=full, sections={"server": {"max_calls": 3}}),
    "no turn": Situation(
        "RATE_LIMITED", prepare=no_turn, sections={"server": {"max_turns": 1, "max_wait": "20ms", "max_calls": 1}}
    ),
    "a method that is no method of IssueToken": Situation("RPC_NOT_ALLOWED", method="x/Other", taken=False),
    "a method for any TLS peer": Situation("RPC_NOT_ALLOWED", method="grpc.health.v1.Health/Check", taken=False),
    "a method for operators": Situation(
        "RPC_NOT_ALLOWED", method="issuer_api.v1.AdminService/ReloadPolicy", taken=False
    ),
    "refused again and again": Situation(
        "RATE_LIMITED", NOT_GRANTED, times=13, sections={"ledger": {"recorded_refusals": 1}}
    ),
    "refused again, and only counted": Situation(
        "SCOPE_NOT_ALLOWED", NOT_GRANTED, times=5, sections={"ledger": {"recorded_refusals": 1}}
    ),
    "without the approval, which was asked for": Situation("APPROVAL_REQUIRED", REFUND, policy=APPROVED_POLICY),
    "an approval is asked for": Situation(
        "APPROVAL_REQUIRED",
        pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"], request_approval=True),
        policy=APPROVED_POLICY,
        taken=False,
    ),
}


@dataclass(frozen=True)
class Seen:
    """What can be seen of calls, without what is never twice the same."""

    answers: list[Any]
    lines: list[dict[str, Any]]
    decisions: list[Any]
    metrics: dict[Any, float]
    steps: list[list[Step]]


async def seen(situation: Situation, folder: Path, *, together: bool) -> Seen:
    async with in_process(folder, situation.policy, **situation.sections) as issuer:
        if situation.known:
            issuer.is_verified(SETTLER)
        await situation.prepare(issuer)
        answers = []
        for _ in range(situation.times):
            call = issuer.asking(situation.request, SETTLER, within=situation.within, method=situation.method)
            is_taken = together and await was_taken(issuer, call)
            assert is_taken == (together and situation.taken)
            answers.append(plain(issuer.answers[call.id] if is_taken else await issuer.alone(call)))
        lines = [
            {name: value for name, value in without_ids(line).items() if name not in EACH_TIME} for line in issuer.lines
        ]
        return Seen(answers, lines, issuer.decisions, issuer.metrics, issuer.steps.seen)


async def was_taken(issuer: InProcess, call: Asking) -> bool:
    before = issuer.log_stream.getvalue(), issuer.turns.running, issuer.metrics, [*issuer.steps.seen]
    if issuer.together.take([call]):
        after = issuer.log_stream.getvalue(), issuer.turns.running, issuer.metrics, issuer.steps.seen
        assert before == after, "nothing was taken of it"
        return False
    await eventually_true(lambda: call.id in issuer.answers)
    return True


def without_ids(seen: Any) -> Any:
    return json.loads(_UUID.sub("an id", json.dumps(seen)))


def plain(answer: bytes | Status) -> Any:
    """Return an answer without what is never twice the same."""
    if isinstance(answer, Status):
        details = [MessageToDict(each) for each in answer.details]
        for detail in details:
            detail.pop("retryDelay", None)
        return [answer.code, answer.message, without_ids(details)]
    response = pb.IssueTokenResponse.FromString(answer)
    for name in ("token", "token_id"):
        response.ClearField(name)
    return without_ids(MessageToDict(response))


def reason_of(answer: Any) -> str:
    return str(answer[2][0]["reason"]) if isinstance(answer, list) else "OK"


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
async def test_a_call_comes_to_the_same_alone_and_together(situation: Situation, tmp_path: Path) -> None:
    together = await seen(situation, tmp_path / "together", together=True)
    assert reason_of(together.answers[-1]) == situation.reason
    if situation.taken:
        assert together == await seen(situation, tmp_path / "alone", together=False)


ANYONE = POLICY.replace(SETTLER, "spiffe://dev.test/**")
CALLERS = [f"spiffe://dev.test/worker-{number}" for number in range(6)]


def told(answers: list[bytes | Status]) -> list[str]:
    return [reason_of(plain(answer)) for answer in answers]


async def test_calls_of_many_callers_share_one_commit_and_are_told_at_once(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        before = issuer.commits
        answers = await issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS])
        assert told(answers) == ["OK"] * 6
        assert (len(issuer.told), issuer.commits - before) == (1, 1)
        assert [line["caller"] for line in issuer.lines] == CALLERS
        assert [row[2] for row in issuer.decisions] == CALLERS
        tokens = [pb.IssueTokenResponse.FromString(each) for each in answers if isinstance(each, bytes)]
        assert [each.token_id for each in tokens] == [line["token_id"] for line in issuer.lines]
        assert not any(each.token in issuer.log_stream.getvalue() for each in tokens)


async def one_by_one(issuer: InProcess, calls: list[Asking]) -> None:
    """Let calls be taken as a transport brings them, with turns of the event loop between."""
    for call in calls:
        assert issuer.together.take([call]) == []
        for _ in range(3):
            await asyncio.sleep(0)


async def test_calls_that_lately_came_together_are_waited_for(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        await issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS])
        for _ in range(ROUNDS):  # on a busy machine a round may take longer than anybody waits
            told_before, commits_before = len(issuer.told), issuer.commits
            calls = [issuer.asking(REQUEST, caller) for caller in CALLERS]
            await one_by_one(issuer, calls)
            await eventually_true(partial(calls_told, issuer, calls))
            if (len(issuer.told) - told_before, issuer.commits - commits_before) == (1, 1):
                return
        pytest.fail("they were never answered together")


async def test_who_is_alone_at_first_is_answered_though_others_are_expected(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        await issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS])
        assert told(await issuer.gathered([issuer.asking(REQUEST, CALLERS[0])])) == ["OK"]


async def test_what_becomes_of_one_does_not_touch_the_others(tmp_path: Path) -> None:
    asked = [REQUEST, NOT_GRANTED, REQUEST, pb.IssueTokenRequest(audience="https://x", scopes=["a"]), REQUEST]
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        calls = [issuer.asking(request, caller) for request, caller in zip(asked, CALLERS, strict=False)]
        answers = await issuer.gathered(calls)
        assert told(answers) == ["OK", "SCOPE_NOT_ALLOWED", "OK", "AUDIENCE_NOT_ALLOWED", "OK"]
        assert [line.get("reason", "OK") for line in issuer.lines] == told(answers)
        assert len(issuer.told) == 1


async def test_those_who_wait_for_their_turn_are_answered_when_it_comes(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE, server={"max_turns": 2}) as issuer:
        issuer.is_verified(*CALLERS)
        answering = asyncio.ensure_future(issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS]))
        await asyncio.sleep(0)
        assert issuer.turns.waiting > 0
        assert told(await answering) == ["OK"] * 6
        assert len(issuer.told) > 1
        assert (issuer.turns.running, issuer.turns.waiting) == (0, 0)


async def test_a_refusal_is_held_back_while_there_is_room(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE, server={"max_turns": 1, "max_wait": "10ms"}) as issuer:
        issuer.is_verified(*CALLERS)
        await no_turn(issuer)
        clock = asyncio.get_running_loop().time
        started = clock()
        assert (
            told(await issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS])) == ["RATE_LIMITED"] * 6
        )
        assert clock() - started >= HOLD_SECONDS - TICK_SECONDS
        assert len(issuer.told) < 6, "those of a moment are told together"


@asynccontextmanager
async def flooded(issuer: InProcess) -> AsyncIterator[None]:
    """Let the first of the callers ask for more than it gets, until it is refused at the door."""
    issuer.is_verified(*CALLERS)
    flooder = issuer.verifier.verify(issuer.leaf(CALLERS[0]), None, NOW).spiffe_id
    waiting = [asyncio.create_task(issuer.turns.take(flooder, 1, None)) for _ in range(10)]
    door = issuer.pipeline.door
    await eventually_true(lambda: door.turn_away(ISSUE_TOKEN, issuer.leaf(CALLERS[0]), None, None) is not None)
    yield
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_flooder_is_refused_at_the_door_with_any_method(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE, server={"max_turns": 5, "max_wait": "1s"}) as issuer, flooded(issuer):
        seen = len(issuer.steps.seen)
        calls = [issuer.asking(REQUEST, CALLERS[0], method=method) for method in (ISSUE_TOKEN, BATCH)]
        assert told(await issuer.gathered(calls)) == ["RATE_LIMITED"] * 2
        assert len(issuer.steps.seen) == seen, "nothing was begun for it"
        assert told(await issuer.gathered([issuer.asking(REQUEST, CALLERS[1])])) == ["OK"]


async def test_what_more_comes_of_a_flooder_is_left_to_its_transport(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE, server={"max_turns": 5, "max_wait": "1s"}) as issuer:
        async with flooded(issuer):
            issuer.leave_to(transport := Transport())
            flooding, other = Connection(), Connection()
            calls = [
                issuer.asking(REQUEST, CALLERS[0])._replace(peer=flooding),
                issuer.asking(REQUEST, CALLERS[1])._replace(peer=other),
            ]
            assert told(await issuer.gathered(calls)) == ["RATE_LIMITED", "OK"]
            assert other.allowance is None
            assert flooding.allowance is not None
            assert (flooding.allowance.calls, flooding.allowance.seconds > 0) == (0, True)
            assert len(transport.told) == 1
        assert told(await issuer.gathered([issuer.asking(REQUEST, CALLERS[1])])) == ["OK"]
        assert flooding.allowance.calls > 0, "it is looked at with every answer"


async def test_who_is_revoked_meanwhile_is_decided_again_alone_and_the_others_get_their_tokens(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        answering = asyncio.ensure_future(issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS]))
        revoking_it = revoking(Selector(workload=parse_pattern(CALLERS[0])))
        while not issuer.keeping.ledger.waiting:  # noqa: ASYNC110 - signed, and not yet written: the next turn of the loop
            await asyncio.sleep(0)
        await issuer.keeping.ledger.write(revoking_it)
        answers = await answering
        assert told(answers) == ["REVOKED", *["OK"] * 5]
        assert "token_id" not in issuer.lines[0], "the log tells nothing of a token that never left"
        assert [row[0] for row in issuer.decisions].count(1) == 5


async def approved(issuer: InProcess) -> None:
    """Let the settler have an approval for one refund."""
    issuer.is_verified(SETTLER, ALICE)
    asked = pb.IssueTokenRequest()
    asked.CopyFrom(REFUND)
    asked.request_approval = True
    refused = await issuer.alone(issuer.asking(asked, SETTLER))
    assert isinstance(refused, Status)
    info = ErrorInfo()
    assert refused.details[0].Unpack(info)
    approve = approvals.ApproveRequestRequest(name=info.metadata["approvalRequest"])
    name = "issuer_api.v1.ApprovalService/ApproveRequest"
    await issuer.called(issuer.services.approvals.approve, name, approve, ALICE)


async def test_an_approval_for_one_token_gives_one_of_those_who_ask_together(tmp_path: Path) -> None:
    async with in_process(tmp_path, APPROVED_POLICY) as issuer:
        await approved(issuer)
        answers = await issuer.gathered([issuer.asking(REFUND, SETTLER) for _ in range(3)])
        assert told(answers) == ["OK", "APPROVAL_REQUIRED", "APPROVAL_REQUIRED"]


async def test_an_approval_for_one_token_gives_one_of_two_groups_and_others_in_them_get_theirs(tmp_path: Path) -> None:
    async with in_process(tmp_path, APPROVED_POLICY) as issuer:
        await approved(issuer)
        issuer.is_verified(READER)
        plainly = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"])
        groups = [[issuer.asking(REFUND, SETTLER), issuer.asking(plainly, READER)] for _ in range(2)]
        first, second = await asyncio.gather(*map(issuer.gathered, groups))
        assert sorted([told(first), told(second)]) == [["APPROVAL_REQUIRED", "OK"], ["OK", "OK"]]


async def test_each_caller_has_its_own_budget_of_refusals(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE, ledger={"recorded_refusals": 1}) as issuer:
        issuer.is_verified(*CALLERS)
        calls = [issuer.asking(NOT_GRANTED, CALLERS[0]) for _ in range(13)]
        calls += [issuer.asking(NOT_GRANTED, caller) for caller in CALLERS[1:]]
        answers = told(await issuer.gathered(calls))
        assert answers == ["SCOPE_NOT_ALLOWED"] * 12 + ["RATE_LIMITED"] + ["SCOPE_NOT_ALLOWED"] * 5
        assert len(issuer.decisions) == 2 + 5


async def test_calls_that_are_cancelled_are_logged_and_give_their_turns_back(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        before = asyncio.all_tasks()
        assert issuer.together.take([issuer.asking(REQUEST, caller) for caller in CALLERS]) == []
        [task] = asyncio.all_tasks() - before
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert [line["code"] for line in issuer.lines] == ["CANCELLED"] * 6
        assert (issuer.turns.running, issuer.told) == (0, [])


async def test_a_log_that_cannot_be_written_leaves_nobody_without_an_answer(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        issuer.is_verified(*CALLERS)
        calls = [issuer.asking(REQUEST, caller) for caller in CALLERS]
        issuer.together.take(calls)
        issuer.log_stream.close()
        await eventually_true(lambda: len(issuer.answers) == 6)


async def test_a_defect_that_hits_all_is_told_to_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)

        def broken() -> None:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(issuer.keeping.revocations, "current", broken)
        answers = await issuer.gathered([issuer.asking(REQUEST, caller) for caller in CALLERS])
        assert told(answers) == ["INTERNAL"] * 6
        assert [line["event"] for line in issuer.lines] == ["rpc_fault", "rpc"] * 6
        assert issuer.turns.running == 0


async def test_an_issuer_without_an_svid_of_its_own_takes_nobody(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        issuer.is_verified(*CALLERS)
        await identity_away(issuer)
        calls = [issuer.asking(REQUEST, caller) for caller in CALLERS]
        assert issuer.together.take(calls) == calls


async def test_what_is_sent_by_somebody_who_was_not_verified_is_not_remembered(tmp_path: Path) -> None:
    async with in_process(tmp_path, ANYONE) as issuer:
        before = plain_request._remembered.cache_info().currsize
        stranger = issuer.asking(pb.IssueTokenRequest(audience=LEDGER, scopes=["of-a-stranger"]), CALLERS[0])
        assert issuer.together.take([stranger]) == [stranger]
        assert plain_request._remembered.cache_info().currsize == before
