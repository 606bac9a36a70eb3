"""The course of a call: how it begins, who is found to make it, and how it ends, the same however it is answered."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from google.rpc import code_pb2

from issuer.core.errors import IssuerError, RateLimited, RpcNotAllowed
from issuer.issuance import Asked
from issuer.log import lines_together, write_line
from issuer.observing import UNOBSERVED, Step
from issuer.rpc.call import VerifiedCall
from issuer.rpc.rpc_rules import RPC_RULES, is_for_callers
from issuer.rpc.status import STATUS_CODES, internal_error, status_from_error

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from google.rpc.status_pb2 import Status
    from structlog.typing import FilteringBoundLogger

    from issuer.core.caller import Caller
    from issuer.core.verdicts import CallerVerifier, Recall
    from issuer.issuance import LogFields
    from issuer.observing import CallObserver, Trace
    from issuer.ports import Clock, Ids
    from issuer.rpc.call import Call
    from issuer.rpc.roles import Roles

_OUR_FAULTS = frozenset({code_pb2.INTERNAL, code_pb2.UNAVAILABLE})
"""Logged as errors; the caller's faults are not ours to be paged for."""
_CODE_NAMES = {number: name for name, number in code_pb2.Code.items()}


@lru_cache(maxsize=4096)  # a caller calls more than once; as many as there are verdicts
def peer_address(peer: str) -> str:
    """Return the network address of a peer as gRPC spells it, without the port: ``ipv4:10.0.0.7``."""
    kind, _, rest = peer.partition(":")
    return f"{kind}:{rest.rpartition(':')[0]}" if kind in {"ipv4", "ipv6"} else peer


class Moment(NamedTuple):
    """When a call came: the time of the request, and the same on the clock that never jumps, in seconds."""

    now: datetime
    started: float


class Running(NamedTuple):
    """A call that began; ``fields`` are those of its log line."""

    call: Call
    moment: Moment
    request_id: str
    fields: LogFields
    trace: Trace


class Course:
    """What is done around every call.

    Args:
        clock: The time.
        ids: Where request ids come from.
        verifier: Verifies callers.
        roles: Who may administer.
        log: Gets one line for each call.
        observer: Is told of each call.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        verifier: CallerVerifier,
        roles: Roles,
        log: FilteringBoundLogger,
        observer: CallObserver = UNOBSERVED,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._verifier = verifier
        self._roles = roles
        self._log = log
        self._observer = observer

    def moment(self) -> Moment:
        """Read the clock, once for a call, or for calls that came together."""
        return Moment(self._clock.now(), time.perf_counter())

    def begin(self, call: Call, moment: Moment) -> Running:
        """Give a call its id and its trace."""
        trace = self._observer.began(call.metadata, moment.now)
        return Running(call, moment, self._ids.fresh_id(moment.now), {}, trace)

    def recall(self, moment: Moment) -> Recall:
        """Return what tells who calls, where that was verified before and still holds.

        Raises:
            TemporarilyUnavailable: The issuer has no valid identity of its own.
        """
        return self._verifier.recall(moment.now)

    def verify(self, running: Running) -> VerifiedCall:
        """Verify the caller, whatever TLS thought of it.

        Raises:
            RpcNotAllowed: The method is not listed in ``RPC_RULES``, or is none for verified callers.
            CallerNotVerified: With the reason.
            TemporarilyUnavailable: The issuer has no valid identity of its own.
        """
        call = running.call
        running.trace.at(Step.VERIFY_CALLER)
        if not is_for_callers(call.method):
            raise RpcNotAllowed
        return self.verified(running, self._verifier.verify(call.leaf_pem, call.intermediates_pem, running.moment.now))

    def verified(self, running: Running, caller: Caller) -> VerifiedCall:
        """Return the call of a caller that was found to make it."""
        call, now = running.call, running.moment.now
        running.fields["caller"] = str(caller.spiffe_id)
        asked = Asked(caller, peer_address(call.peer), now, call.within, running.trace)
        return VerifiedCall(asked=asked, request_id=running.request_id, log_fields=running.fields)

    def check_role(self, running: Running, caller: Caller) -> None:
        """Refuse a caller without the role that the method needs.

        Raises:
            RpcNotAllowed: It has not.
        """
        self._roles.check(caller, RPC_RULES[running.call.method])

    def failed(self, error: Exception, running: Running) -> Status:
        """End a call with the status of a refusal; whatever was not foreseen is INTERNAL with a fixed text.

        A call that is told to come back later is not logged by itself.
        """
        if isinstance(error, RateLimited):
            return status_from_error(error, "")
        if isinstance(error, IssuerError):
            running.fields.setdefault("error", error.message)
        else:
            call, request_id = running.call, running.request_id
            self._log.exception("rpc_fault", method=call.method, request_id=request_id, exc_info=error)
            error = internal_error()
        running.fields["reason"] = error.reason.value
        self.ended(running, STATUS_CODES[error.reason])
        return status_from_error(error, running.request_id)

    def lines_together(self) -> AbstractContextManager[None]:
        """Write the lines of the calls that end in this context with few writes."""
        return lines_together(self._log)

    def ended(self, running: Running, code: code_pb2.Code.ValueType) -> None:
        """Write the log line of a call, and tell the observer."""
        call, fields = running.call, running.fields
        seconds, name = time.perf_counter() - running.moment.started, _CODE_NAMES[code]
        fields["request_id"] = running.request_id
        if (trace_id := self._observer.ended(running.trace, call.method, name, seconds, fields)) is not None:
            fields["trace_id"] = trace_id
        line = {
            "method": call.method,
            "code": name,
            "peer": call.peer,
            "duration_ms": round(seconds * 1000, 3),
            **fields,
        }
        write_line(self._log, "error" if code in _OUR_FAULTS else "info", "rpc", line)
