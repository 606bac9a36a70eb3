"""The steps around every method, the same for each transport."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from google.rpc import code_pb2

from issuer.core.errors import CallerNotVerified, RateLimited, Reason
from issuer.observing import UNOBSERVED, Step
from issuer.rpc.course import Course
from issuer.rpc.door import Door
from issuer.rpc.status import status_from_error
from issuer.rpc.turns import cost_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from google.rpc.status_pb2 import Status
    from structlog.typing import FilteringBoundLogger

    from issuer.core.verdicts import CallerVerifier
    from issuer.observing import CallObserver
    from issuer.ports import Clock, Ids
    from issuer.rpc.call import Call, VerifiedCall
    from issuer.rpc.course import Running
    from issuer.rpc.roles import Roles
    from issuer.rpc.turns import Turns

Request = TypeVar("Request")
Response = TypeVar("Response")


class RpcFailed(Exception):
    """A call ends with this status. For the transport adapter alone."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Pipeline:
    """Runs a method for a call, a step after the other; :class:`~issuer.rpc.together.Together` has them for many calls.

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
        ids: Ids,
        verifier: CallerVerifier,
        roles: Roles,
        turns: Turns,
        log: FilteringBoundLogger,
        observer: CallObserver = UNOBSERVED,
    ) -> None:
        self._clock = clock
        self._verifier = verifier
        self.turns = turns
        self.course = Course(clock=clock, ids=ids, verifier=verifier, roles=roles, log=log, observer=observer)

    @property
    def door(self) -> Door:
        """What may stand before it: refuses calls that it would refuse, at less cost."""
        return Door(self.turns, self._verifier)

    async def answer(
        self, method: Callable[[Request, VerifiedCall], Awaitable[Response]], message: Request, call: Call
    ) -> Response:
        """Run ``method``.

        Raises:
            RpcFailed: With the status that the caller receives.
        """
        try:
            self.turns.enter()
        except RateLimited as error:
            raise RpcFailed(status_from_error(error, "")) from None
        running = self.course.begin(call, self.course.moment())
        try:
            verified = self.course.verify(running)
            response = await self._in_turn(partial(method, message, verified), message, verified, running)
        except asyncio.CancelledError:
            self.course.ended(running, code_pb2.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it was, the caller learns INTERNAL
            raise RpcFailed(self.course.failed(error, running)) from None
        finally:
            self.turns.leave()
        self.course.ended(running, code_pb2.OK)
        return response

    async def _in_turn(
        self, method: Callable[[], Awaitable[Response]], message: object, verified: VerifiedCall, running: Running
    ) -> Response:
        """Run ``method`` when it is the caller's turn; a call that its role does not allow takes one, too."""
        caller, call = verified.caller, running.call
        running.trace.at(Step.WAIT_TURN)
        turn = await self.turns.take(caller.spiffe_id, cost_of(call.method, message), call.within)
        try:
            self.course.check_role(running, caller)
            running.trace.at(Step.METHOD)
            return await method()
        except RateLimited:
            self.turns.count_refused(caller.spiffe_id)
            raise
        finally:
            self.turns.give_back(turn)

    async def _open(self, verified: VerifiedCall, running: Running) -> None:
        """Let a method begin that answers many times: it takes a turn for that, and holds none while it lasts."""

        async def opened() -> None:
            pass

        self.turns.enter()
        try:
            await self._in_turn(opened, None, verified, running)
        finally:
            self.turns.leave()

    async def answers(
        self, method: Callable[[Request, VerifiedCall], AsyncIterator[Response | None]], message: Request, call: Call
    ) -> AsyncGenerator[Response, None]:
        """Run a method that answers many times; it may last, but not past the end of the caller's SVID.

        A method yields ``None`` from time to time when it has no answer.

        Raises:
            RpcFailed: With the status that the caller receives.
        """
        running = self.course.begin(call, self.course.moment())
        running.fields["answers"] = 0
        code: code_pb2.Code.ValueType | None = code_pb2.CANCELLED
        try:
            verified = self.course.verify(running)
            await self._open(verified, running)
            told = 0
            async for response in method(message, verified):
                self._check_still_valid(verified)
                if response is not None:
                    told += 1
                    running.fields["answers"] = told
                    yield response
            code = code_pb2.OK
        except Exception as error:  # noqa: BLE001 - as above
            code = None
            raise RpcFailed(self.course.failed(error, running)) from None
        finally:
            if code is not None:
                self.course.ended(running, code)

    def _check_still_valid(self, call: VerifiedCall) -> None:
        if self._clock.now() >= call.caller.not_after:
            raise CallerNotVerified(Reason.SVID_EXPIRED, "the SVID expired while the stream was open")
