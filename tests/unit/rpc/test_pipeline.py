"""The steps around every method, with the real pieces where they are pure and small fakes for the ports."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from google.rpc import code_pb2, error_details_pb2

from issuer.core.caller import Caller
from issuer.core.errors import CallerNotVerified, IssuerError, PolicyDenied, Reason
from issuer.core.spiffe_id import SpiffeId
from issuer.log import open_log
from issuer.rpc.call import Call, VerifiedCall
from issuer.rpc.pipeline import Pipeline, RpcFailed
from issuer.rpc.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISSUE = "issuer_api.v1.IssuerService/IssueToken"
CALLER = Caller(SpiffeId.parse("spiffe://dev.test/a"), b"0" * 32, 1, NOW)


class Clock:
    def now(self) -> datetime:
        return NOW


class Ids:
    def token_id(self) -> str:
        return "jti"

    def decision_id(self, now: datetime) -> str:
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

    def __init__(self, error: IssuerError | None = None, method: str = ISSUE) -> None:
        self._stream = io.StringIO()
        self._call = Call(method, "ipv4:127.0.0.1:1", b"leaf", None)
        self._pipeline = Pipeline(
            clock=Clock(),
            ids=Ids(),
            verifier=Verifier(error),  # type: ignore[arg-type]
            roles=Roles(),
            log=open_log("json", self._stream),
        )

    async def answer(self, method: Callable[[str, VerifiedCall], Awaitable[str]]) -> str:
        return await self._pipeline.answer(method, "message", self._call)

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
