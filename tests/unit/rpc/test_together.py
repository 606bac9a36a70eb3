"""Calls that are answered together, beside the same calls one by one: whatever comes of them is the same."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from support.approving import POLICY as APPROVED_POLICY
from support.approving import REFUND
from support.deployment import LEDGER, POLICY, READER, REQUEST, SETTLER
from support.eventually import eventually_true
from support.in_process import HOUR, NOW, InProcess, in_process
from support.ledgers import revoking

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Selector
from issuer.rpc.together import ISSUE_TOKEN
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from issuer.rpc.together import Asking

EACH_TIME = frozenset({"token_id", "token_sha256", "duration_ms", "timestamp"})
"""Fields of a log line that are never twice the same; ids are not either."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
    issuer.keys.is_away = True


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
        return Seen(answers, lines, issuer.decisions, issuer.metrics)


async def was_taken(issuer: InProcess, call: Asking) -> bool:
    before = [*issuer.lines], issuer.turns.running, issuer.metrics
    if issuer.together.take([call]):
        assert before == (issuer.lines, issuer.turns.running, issuer.metrics), "nothing was taken of it"
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
    alone = await seen(situation, tmp_path / "alone", together=False)
    together = await seen(situation, tmp_path / "together", together=True)
    assert reason_of(alone.answers[-1]) == situation.reason
    assert alone == together
