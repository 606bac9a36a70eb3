"""The steps around every method, the same for each transport."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from google.rpc import code_pb2

from issuer.core.errors import CallerNotVerified, IssuerError, RateLimited, Reason, RpcNotAllowed
from issuer.issuance import Asked
from issuer.observing import UNOBSERVED, Step
from issuer.rpc.call import VerifiedCall
from issuer.rpc.door import Door
from issuer.rpc.rpc_rules import RPC_RULES, CallerKind
from issuer.rpc.status import STATUS_CODES, internal_error, status_from_error
from issuer.rpc.turns import cost_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from google.rpc.status_pb2 import Status
    from structlog.typing import FilteringBoundLogger

    from issuer.core.verdicts import CallerVerifier
    from issuer.issuance import LogFields
    from issuer.observing import CallObserver, Trace
    from issuer.ports import Clock, TokenIds
    from issuer.rpc.call import Call
    from issuer.rpc.roles import Roles
    from issuer.rpc.turns import Turns

Request = TypeVar("Request")
Response = TypeVar("Response")

_OUR_FAULTS = frozenset({code_pb2.INTERNAL, code_pb2.UNAVAILABLE})
"""Logged as errors; the caller's faults are not ours to be paged for."""
_CODE_NAMES = {number: name for name, number in code_pb2.Code.items()}


@lru_cache(maxsize=4096)  # a caller calls more than once; as many as there are verdicts
def peer_address(peer: str) -> str:
    """Return the network address of a peer as gRPC spells it, without the port: ``ipv4:10.0.0.7``."""
    kind, _, rest = peer.partition(":")
    return f"{kind}:{rest.rpartition(':')[0]}" if kind in {"ipv4", "ipv6"} else peer


class RpcFailed(Exception):
    """A call ends with this status. For the transport adapter alone."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class _Running(NamedTuple):
    """A call in the pipeline; ``fields`` are those of its log line."""

    call: Call
    now: datetime
    request_id: str
    fields: LogFields
    started: float
    trace: Trace


class Pipeline:
    """Runs a method for a call.

    1. Refuse it if too many are here.
    2. Read the clock, once; give the call an id.
    3. The method must be listed in ``RPC_RULES``.
    4. Verify the caller's SVID, whatever TLS thought of it.
    5. Wait until it is this caller's turn, for a short while; the caller must have the role that the method needs.
    6. Run the method.
    7. Turn a refusal into its status, and anything else into INTERNAL with a fixed text.
    8. Write one log line and tell the observer, unless the call was refused for being one too many.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: TokenIds,
        verifier: CallerVerifier,
        roles: Roles,
        turns: Turns,
        log: FilteringBoundLogger,
        observer: CallObserver = UNOBSERVED,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._verifier = verifier
        self._roles = roles
        self._turns = turns
        self._log = log
        self._observer = observer

    @property
    def door(self) -> Door:
        """What may stand before it: refuses calls that it would refuse, at less cost."""
        return Door(self._turns, self._verifier)

    async def answer(
        self, method: Callable[[Request, VerifiedCall], Awaitable[Response]], message: Request, call: Call
    ) -> Response:
        """Run ``method``.

        Raises:
            RpcFailed: With the status that the caller receives.
        """
        try:
            self._turns.enter()
        except RateLimited as error:
            raise RpcFailed(status_from_error(error, "")) from None
        running = self._begin(call)
        try:
            verified = self._verify(running)
            response = await self._in_turn(partial(method, message, verified), message, verified, running)
        except RateLimited as error:
            raise RpcFailed(status_from_error(error, "")) from None
        except asyncio.CancelledError:
            self._write(running, code_pb2.CANCELLED)
            raise
        except IssuerError as error:
            running.fields.setdefault("error", error.message)
            raise self._failed(error, running) from None
        except Exception:  # noqa: BLE001 - the last line of defence: whatever it was, the caller learns INTERNAL
            self._log.exception("rpc_fault", method=call.method, request_id=running.request_id)
            raise self._failed(internal_error(), running) from None
        finally:
            self._turns.leave()
        self._write(running, code_pb2.OK)
        return response

    async def _in_turn(
        self, method: Callable[[], Awaitable[Response]], message: object, verified: VerifiedCall, running: _Running
    ) -> Response:
        """Run ``method`` when it is the caller's turn; a call that its role does not allow takes one, too."""
        caller, call = verified.caller, running.call
        running.trace.at(Step.WAIT_TURN)
        turn = await self._turns.take(caller.spiffe_id, cost_of(call.method, message), call.within)
        try:
            self._roles.check(caller, RPC_RULES[call.method])
            running.trace.at(Step.METHOD)
            return await method()
        except RateLimited:
            self._turns.count_refused(caller.spiffe_id)
            raise
        finally:
            self._turns.give_back(turn)

    async def _open(self, verified: VerifiedCall, running: _Running) -> None:
        """Let a method begin that answers many times: it takes a turn for that, and holds none while it lasts."""

        async def opened() -> None:
            pass

        self._turns.enter()
        try:
            await self._in_turn(opened, None, verified, running)
        finally:
            self._turns.leave()

    async def answers(
        self, method: Callable[[Request, VerifiedCall], AsyncIterator[Response | None]], message: Request, call: Call
    ) -> AsyncGenerator[Response, None]:
        """Run a method that answers many times; it may last, but not past the end of the caller's SVID.

        A method yields ``None`` from time to time when it has no answer.

        Raises:
            RpcFailed: With the status that the caller receives.
        """
        running = self._begin(call)
        fields, request_id = running.fields, running.request_id
        fields["answers"] = 0
        code: code_pb2.Code.ValueType | None = code_pb2.CANCELLED
        try:
            verified = self._verify(running)
            await self._open(verified, running)
            told = 0
            async for response in method(message, verified):
                self._check_still_valid(verified)
                if response is not None:
                    told += 1
                    fields["answers"] = told
                    yield response
            code = code_pb2.OK
        except RateLimited as error:
            code = None
            raise RpcFailed(status_from_error(error, "")) from None
        except IssuerError as error:
            fields |= {"error": error.message, "reason": error.reason.value}
            code = STATUS_CODES[error.reason]
            raise RpcFailed(status_from_error(error, request_id)) from None
        except Exception:  # noqa: BLE001 - as above
            self._log.exception("rpc_fault", method=call.method, request_id=request_id)
            fields["reason"] = Reason.INTERNAL.value
            code = code_pb2.INTERNAL
            raise RpcFailed(status_from_error(internal_error(), request_id)) from None
        finally:
            if code is not None:
                self._write(running, code)

    def _check_still_valid(self, call: VerifiedCall) -> None:
        if self._clock.now() >= call.caller.not_after:
            raise CallerNotVerified(Reason.SVID_EXPIRED, "the SVID expired while the stream was open")

    def _begin(self, call: Call) -> _Running:
        started = time.perf_counter()
        now = self._clock.now()
        trace = self._observer.began(call.metadata, now)
        return _Running(call, now, self._ids.decision_id(now), {}, started, trace)

    def _verify(self, running: _Running) -> VerifiedCall:
        call, trace = running.call, running.trace
        trace.at(Step.VERIFY_CALLER)
        kind = RPC_RULES.get(call.method, CallerKind.TLS_PEER)
        if kind is CallerKind.TLS_PEER:
            raise RpcNotAllowed
        caller = self._verifier.verify(call.leaf_pem, call.intermediates_pem, running.now)
        running.fields["caller"] = str(caller.spiffe_id)
        asked = Asked(caller, peer_address(call.peer), running.now, call.within, trace)
        return VerifiedCall(asked=asked, request_id=running.request_id, log_fields=running.fields)

    def _failed(self, error: IssuerError, running: _Running) -> RpcFailed:
        running.fields["reason"] = error.reason.value
        self._write(running, STATUS_CODES[error.reason])
        return RpcFailed(status_from_error(error, running.request_id))

    def _write(self, running: _Running, code: code_pb2.Code.ValueType) -> None:
        call, fields = running.call, running.fields
        seconds, name = time.perf_counter() - running.started, _CODE_NAMES[code]
        fields["request_id"] = running.request_id
        if (trace_id := self._observer.ended(running.trace, call.method, name, seconds, fields)) is not None:
            fields["trace_id"] = trace_id
        write = self._log.error if code in _OUR_FAULTS else self._log.info
        write("rpc", method=call.method, code=name, peer=call.peer, duration_ms=round(seconds * 1000, 3), **fields)
