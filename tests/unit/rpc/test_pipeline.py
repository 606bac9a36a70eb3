"""The steps around every method, with the real pieces where they are pure and small fakes for the ports."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.rpc import code_pb2, error_details_pb2

from issuer.core.admission import Limits
from issuer.core.caller import Caller
from issuer.core.errors import CallerNotVerified, IssuerError, PolicyDenied, RateLimited, Reason
from issuer.core.spiffe_id import SpiffeId
from issuer.log import open_log
from issuer.rpc.call import Call, VerifiedCall
from issuer.rpc.pipeline import Pipeline, RpcFailed
from issuer.rpc.roles import Roles
from issuer.rpc.rpc_rules import RPC_RULES
from issuer.rpc.turns import HOLD_SECONDS, Turns, cost_of
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISSUE = "issuer_api.v1.IssuerService/IssueToken"
CALLER = Caller(SpiffeId.parse("spiffe://dev.test/a"), b"0" * 32, 1, NOW + timedelta(hours=1))


class Clock:
    def now(self) -> datetime:
        return NOW


class Ids:
    def fresh_id(self, now: datetime) -> str:
        assert now == NOW
        return "request-1"


class Verifier:
    def __init__(self, error: IssuerError | None = None) -> None:
        self._error = error

    def verify(self, leaf_pem: bytes | None, intermediates_pem: bytes | None, now: datetime) -> Caller:
        assert (leaf_pem, intermediates_pem, now) == (b"leaf", None, NOW)
        if self._error:
            raise self._error
        return CALLER


class Run:
    """One call through a pipeline, and what it logged."""

    def __init__(
        self,
        error: IssuerError | None = None,
        method: str = ISSUE,
        *,
        most_calls: int = 2,
        viewer: bool = False,
        within: float | None = None,
    ) -> None:
        self._stream = io.StringIO()
        self._call = Call(method, "ipv4:127.0.0.1:1", b"leaf", None, within)
        log = open_log("json", self._stream)
        self.refused: list[str] = []
        self.turns = Turns(Limits(1, 256, 0.05), most_calls=most_calls, refused=self._refuse, log=log)
        self._pipeline = Pipeline(
            clock=Clock(),
            ids=Ids(),
            verifier=Verifier(error),  # type: ignore[arg-type]
            roles=Roles(viewers=frozenset({CALLER.spiffe_id} if viewer else ())),
            turns=self.turns,
            log=log,
        )

    async def answer(self, method: Callable[[str, VerifiedCall], Awaitable[str]]) -> str:
        return await self._pipeline.answer(method, "message", self._call)

    def _refuse(self, trust_domain: str, calls: int) -> None:
        self.refused += [trust_domain] * calls

    def answers(self, method: Callable[[str, VerifiedCall], AsyncIterator[str | None]]) -> AsyncGenerator[str, None]:
        return self._pipeline.answers(method, "message", self._call)

    async def failed(self, method: Callable[[str, VerifiedCall], Awaitable[str]]) -> tuple[int, str, str]:
        with pytest.raises(RpcFailed) as failure:
            await self.answer(method)
        info = error_details_pb2.ErrorInfo()
        failure.value.status.details[0].Unpack(info)
        assert info.metadata["requestId"] == "request-1"
        return failure.value.status.code, info.reason, failure.value.status.message

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


async def greet(message: str, call: VerifiedCall) -> str:
    call.log_fields["greeted"] = message
    return f"hello {call.caller.spiffe_id} at {call.now:%H}"


async def test_a_method_gets_the_verified_caller_and_the_time_and_one_line_is_written() -> None:
    run = Run()
    assert await run.answer(greet) == "hello spiffe://dev.test/a at 12"
    (line,) = run.lines
    assert (line["event"], line["code"], line["method"]) == ("rpc", "OK", ISSUE)
    assert (line["caller"], line["greeted"], line["request_id"]) == ("spiffe://dev.test/a", "message", "request-1")


async def test_a_caller_that_is_not_verified_never_reaches_the_method() -> None:
    run = Run(CallerNotVerified(Reason.SVID_EXPIRED, "the certificate has expired"))

    async def method(_message: str, _call: VerifiedCall) -> str:
        raise AssertionError("reached")

    assert (await run.failed(method))[:2] == (code_pb2.UNAUTHENTICATED, "SVID_EXPIRED")
    (line,) = run.lines
    assert (line["level"], line["code"], line["reason"]) == ("info", "UNAUTHENTICATED", "SVID_EXPIRED")
    assert "caller" not in line


async def test_a_method_without_a_rule_is_refused_to_everyone() -> None:
    run = Run(method="issuer_api.v1.IssuerService/NotListed")
    assert (await run.failed(greet))[:2] == (code_pb2.PERMISSION_DENIED, "RPC_NOT_ALLOWED")


async def test_a_method_open_to_any_tls_peer_is_not_served_as_one_for_workloads() -> None:
    assert (await Run(method="grpc.health.v1.Health/Check").failed(greet))[1] == "RPC_NOT_ALLOWED"


async def test_a_denial_is_the_callers_and_logged_as_such() -> None:
    run = Run()

    async def deny(_message: str, _call: VerifiedCall) -> str:
        raise PolicyDenied(Reason.SCOPE_NOT_ALLOWED, "no", decision_id="d", scopes=("a",))

    assert (await run.failed(deny))[:2] == (code_pb2.PERMISSION_DENIED, "SCOPE_NOT_ALLOWED")
    assert run.lines[0]["level"] == "info"


async def test_a_defect_is_internal_with_a_fixed_text_and_is_logged_without_values() -> None:
    run = Run()

    async def break_down(_message: str, _call: VerifiedCall) -> str:
        token = "eyJ.secret"
        raise ZeroDivisionError(f"{len(token)} by nothing")

    assert await run.failed(break_down) == (code_pb2.INTERNAL, "INTERNAL", "internal error of the issuer")
    fault, line = run.lines
    assert (fault["event"], fault["level"]) == ("rpc_fault", "error")
    assert "eyJ.secret" not in json.dumps(fault)
    assert (line["level"], line["code"]) == ("error", "INTERNAL")


async def test_a_call_that_its_caller_gave_up_is_logged() -> None:
    run = Run()
    entered = asyncio.Event()

    async def wait(_message: str, _call: VerifiedCall) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(run.answer(wait))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.lines[0]["code"] == "CANCELLED"


async def hold(run: Run, times: int) -> tuple[list[asyncio.Task[str]], asyncio.Event]:
    """Let calls begin that end when the event is set; they have begun, or wait, when this returns."""
    end = asyncio.Event()

    async def method(_message: str, _call: VerifiedCall) -> str:
        await end.wait()
        return "held"

    tasks = [asyncio.create_task(run.answer(method)) for _ in range(times)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks, end


async def limited(run: Run) -> RpcFailed:
    with pytest.raises(RpcFailed) as failure:
        await run.answer(greet)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    failure.value.status.details[0].Unpack(info)
    assert failure.value.status.details[1].Unpack(retry)
    assert (failure.value.status.code, info.reason) == (code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert dict(info.metadata) == {}
    assert 0.5 <= retry.retry_delay.ToTimedelta().total_seconds() < 1.5
    return failure.value


async def test_a_call_that_gets_no_turn_in_time_is_told_when_to_come_back() -> None:
    run = Run()
    tasks, end = await hold(run, 1)
    await limited(run)
    assert run.refused == ["dev.test"]
    assert (run.turns.running, run.turns.waiting) == (1, 0)
    end.set()
    assert await asyncio.gather(*tasks) == ["held"]
    assert await run.answer(greet)


async def test_a_call_that_waits_goes_on_when_the_one_before_it_ends() -> None:
    run = Run()
    tasks, end = await hold(run, 2)
    assert (run.turns.running, run.turns.waiting) == (1, 1)
    end.set()
    assert await asyncio.gather(*tasks) == ["held", "held"]
    assert (run.turns.running, run.turns.waiting) == (0, 0)


async def test_a_call_that_is_given_up_while_it_waits_leaves_nothing_behind() -> None:
    run = Run()
    tasks, end = await hold(run, 2)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert (run.turns.running, run.turns.waiting) == (1, 0)
    end.set()
    await tasks[0]


async def test_a_call_that_is_given_up_as_its_turn_comes_gives_it_to_the_next() -> None:
    run = Run(most_calls=3)
    tasks, end = await hold(run, 3)
    tasks[0].cancel()  # its turn goes to the second
    await asyncio.sleep(0)
    tasks[1].cancel()  # which does not know yet
    end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, asyncio.CancelledError, str]
    assert run.turns.running == 0


async def test_beyond_the_calls_that_are_held_nobody_is_verified() -> None:
    run = Run(CallerNotVerified(Reason.SVID_EXPIRED, "not reached"), most_calls=0)
    await limited(run)
    assert run.refused == [""]


async def test_a_refusal_is_held_back_so_that_who_asks_again_at_once_asks_less() -> None:
    run = Run(most_calls=4)
    tasks, end = await hold(run, 1)
    clock = asyncio.get_running_loop().time
    started = clock()
    await limited(run)
    assert clock() - started >= HOLD_SECONDS
    end.set()
    await asyncio.gather(*tasks)


async def test_no_refusal_is_held_back_where_many_calls_are_held_already_or_its_caller_would_be_gone() -> None:
    many, hasty = Run(most_calls=3), Run(most_calls=4, within=0.1)
    for run in (many, hasty):
        tasks, end = await hold(run, 1)
        clock = asyncio.get_running_loop().time
        started = clock()
        await limited(run)
        assert clock() - started < HOLD_SECONDS
        end.set()
        await asyncio.gather(*tasks)


async def test_refused_calls_are_not_logged_one_by_one() -> None:
    run = Run(most_calls=0)
    for _ in range(100):
        await limited(run)
    [line] = run.lines
    assert (line["event"], line["level"], line["refused"]) == ("calls_refused", "warning", 1)


async def test_a_method_that_limits_its_caller_itself_is_counted_and_not_logged() -> None:
    run = Run()

    async def method(_message: str, _call: VerifiedCall) -> str:
        raise RateLimited("too often", timedelta(seconds=10))

    with pytest.raises(RpcFailed) as failure:
        await run.answer(method)
    assert failure.value.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert [line["event"] for line in run.lines] == ["calls_refused"]
    assert (run.refused, run.turns.running) == (["dev.test"], 0)


async def test_a_caller_without_the_role_takes_a_turn_to_be_refused() -> None:
    run = Run(method="issuer_api.v1.AdminService/ReloadPolicy")
    tasks, end = await hold(run, 1)
    assert run.turns.running == 0
    end.set()
    with pytest.raises(RpcFailed):
        await tasks[0]


@pytest.mark.parametrize(("items", "cost"), [(0, 1), (1, 1), (64, 64), (5000, 256)])
def test_a_batch_costs_its_items(items: int, cost: int) -> None:
    batch = pb.BatchIssueTokensRequest(requests=[pb.IssueTokenRequest()] * items)
    assert cost_of("issuer_api.v1.IssuerService/BatchIssueTokens", batch) == cost
    assert cost_of(ISSUE, pb.IssueTokenRequest()) == 1
    assert "issuer_api.v1.IssuerService/BatchIssueTokens" in RPC_RULES


async def test_a_stream_takes_a_turn_to_begin_and_holds_none() -> None:
    run = Run(method="issuer_api.v1.AdminService/WatchDecisions", viewer=True)

    async def method(_message: str, _call: VerifiedCall) -> AsyncIterator[str]:
        assert run.turns.running == 0
        yield "first"
        await asyncio.Event().wait()

    async with aclosing(run.answers(method)) as answers:
        assert await anext(answers) == "first"


async def test_a_stream_that_gets_no_turn_is_told_when_to_come_back_and_not_logged() -> None:
    run = Run(method="issuer_api.v1.AdminService/WatchDecisions", viewer=True)
    tasks, end = await hold(run, 1)

    async def method(_message: str, _call: VerifiedCall) -> AsyncIterator[str]:
        assert not tasks, "reached"
        yield ""

    async with aclosing(run.answers(method)) as answers:
        with pytest.raises(RpcFailed) as failure:
            await anext(answers)
    assert failure.value.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert [line["event"] for line in run.lines] == ["calls_refused"]
    end.set()
    await asyncio.gather(*tasks)
