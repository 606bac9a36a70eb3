"""Calls as OTLP's protobuf (https://opentelemetry.io/docs/specs/otlp/): a span for the call, and one for each step.

The messages are filled directly: through OpenTelemetry's SDK the same takes eight times as long (docs/adr/0008).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from issuer.observing import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from issuer.tracing.attributes import Value
    from issuer.tracing.tracer import TracedCall

_SAMPLED: Final = 0x01
_KNOWS_WHETHER_REMOTE: Final = 0x100
_PARENT_IS_REMOTE: Final = 0x200
_ERROR: Final = Status(code=Status.STATUS_CODE_ERROR)


def export_request(calls: Iterable[TracedCall], resource: Mapping[str, Value]) -> ExportTraceServiceRequest:
    """Return the message that a collector takes.

    Args:
        calls: What happened.
        resource: What this issuer is.
    """
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    spans.resource.attributes.extend(_attributes(resource))
    scope: ScopeSpans = spans.scope_spans.add()
    scope.scope.name = "spiffe-issuer"
    for call in calls:
        _add_call(scope, call)
    return request


def _add_call(scope: ScopeSpans, call: TracedCall) -> None:
    # Wall time is read once for a call; the rest is counted from there, so that no step ends before it begins.
    epoch = int(call.trace.began_at.timestamp() * 1e6) * 1000 - call.trace.began
    ids = os.urandom(8 * (len(call.trace.steps) + 1))
    span = scope.spans.add(
        trace_id=call.trace_id,
        span_id=ids[:8],
        parent_span_id=call.parent.span_id if call.parent else b"",
        name=call.method,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=epoch + call.trace.began,
        end_time_unix_nano=epoch + call.ended,
        attributes=_attributes(call.attributes),
        flags=_SAMPLED | _KNOWS_WHETHER_REMOTE | (_PARENT_IS_REMOTE if call.parent else 0),
    )
    if call.is_error:
        span.status.CopyFrom(_ERROR)
    for position, (step, began, ended, last) in enumerate(_steps(call), 1):
        inner = scope.spans.add(
            trace_id=call.trace_id,
            span_id=ids[8 * position : 8 * position + 8],
            parent_span_id=ids[:8],
            name=step.value,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=epoch + began,
            end_time_unix_nano=epoch + ended,
            flags=_SAMPLED | _KNOWS_WHETHER_REMOTE,
        )
        if call.is_error and last:  # the step in which the call ended
            inner.status.CopyFrom(_ERROR)


def _steps(call: TracedCall) -> Iterator[tuple[Step, int, int, bool]]:
    """Yield each step with its begin, its end, and whether it was the last one."""
    steps, times = call.trace.steps, call.trace.times
    for position, (step, began) in enumerate(zip(steps, times, strict=True)):
        last = position == len(steps) - 1
        if step is Step.METHOD and not last:  # a method that names its own steps
            continue
        yield step, began, call.ended if last else times[position + 1], last


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in values.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
