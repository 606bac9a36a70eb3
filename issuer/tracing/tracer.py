"""Which calls are traced, and what is noted of them: the moments at which steps began. Spans are made elsewhere."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.errors import IssuerError
from issuer.core.spiffe_id import SpiffeId
from issuer.observing import UNTRACED, Step
from issuer.tracing.attributes import SERVER_ERRORS, call_attributes
from issuer.tracing.context import parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from issuer.core.patterns import WorkloadPattern
    from issuer.observing import Metadata, Trace
    from issuer.tracing.attributes import Value
    from issuer.tracing.context import Parent

MAX_STEPS: Final = 128
"""Of one call: a token has five for itself, so of a large batch the first twenty are seen one by one."""
_OF_THE_WHOLE_CALL: Final = (Step.RECORD, Step.RELEASE)


class RecordedTrace:
    """The moments of one call, on the clock that never jumps."""

    __slots__ = ("began", "began_at", "is_drawn", "parent", "steps", "times")

    def __init__(self, began_at: datetime, parent: Parent | None, *, is_drawn: bool) -> None:
        self.began = time.perf_counter_ns()
        self.began_at = began_at
        self.parent = parent
        self.is_drawn = is_drawn
        # Two flat lists: a tuple for each step would be one more object for the garbage collector to go through.
        self.steps: list[Step] = []
        self.times: list[int] = []

    def at(self, step: Step) -> None:
        """Note that a step begins."""
        noted = len(self.steps)
        if noted >= MAX_STEPS and step not in _OF_THE_WHOLE_CALL:
            if noted > MAX_STEPS:
                return
            step = Step.MORE
        self.steps.append(step)
        self.times.append(time.perf_counter_ns())


class TracedCall(NamedTuple):
    """A call that is over, with all that its spans will say.

    Attributes:
        trace_id: 16 bytes.
        parent: The caller's span; ``None`` when the trace begins here.
        trace: When it began, and when its steps did.
        ended: When it ended, on the same clock as the steps.
        method: The full name.
        is_error: The issuer could not do its work.
        attributes: What its span tells.
    """

    trace_id: bytes
    parent: Parent | None
    trace: RecordedTrace
    ended: int
    method: str
    is_error: bool
    attributes: Mapping[str, Value]


class Tracer:
    """Chooses calls and hands them on. For one thread, that of the event loop.

    A caller chooses neither the ids of its trace nor whether it is kept, unless it was verified and its SPIFFE ID is
    one of those that may: for all others `traceparent` is as if it were not there.

    Args:
        ratio: The part of calls that is traced, from 0 to 1, of those that nobody who may has chosen.
        trusted: Whose `traceparent` counts.
        send: Takes a call; must not wait.
        identities: Whether spans tell who called, and for which API.
    """

    def __init__(
        self,
        ratio: float,
        trusted: Sequence[WorkloadPattern],
        send: Callable[[TracedCall], None],
        *,
        identities: bool = False,
    ) -> None:
        self._ratio = ratio
        self._trusted = tuple(trusted)
        self._send = send
        self._identities = identities

    def began(self, metadata: Metadata, now: datetime) -> Trace:
        """Begin to note the steps of a call, if it may come to be traced."""
        is_drawn = random.random() < self._ratio  # noqa: S311 - chooses a sample, guards nothing
        # Who calls is not known yet: what is claimed is kept, and counts only once the caller was verified.
        parent = parent_of(metadata()) if self._trusted else None
        if not is_drawn and (parent is None or not parent.is_sampled):
            return UNTRACED
        return RecordedTrace(now, parent, is_drawn=is_drawn)

    def ended(self, trace: Trace, method: str, code: str, fields: Mapping[str, object]) -> str | None:
        """Hand the call on, if it is traced; return the trace's id in hexadecimal."""
        if not isinstance(trace, RecordedTrace):
            return None
        parent = trace.parent if trace.parent and self._is_trusted(fields.get("caller")) else None
        if not (parent.is_sampled if parent else trace.is_drawn):
            return None
        trace_id = parent.trace_id if parent else os.urandom(16)
        ended = time.perf_counter_ns()
        attributes = call_attributes(method, code, fields, identities=self._identities)
        self._send(TracedCall(trace_id, parent, trace, ended, method, code in SERVER_ERRORS, attributes))
        return trace_id.hex()

    def _is_trusted(self, caller: object) -> bool:
        try:
            spiffe_id = SpiffeId.parse(str(caller or ""))
        except IssuerError:
            return False
        return any(pattern.matches(spiffe_id) for pattern in self._trusted)
