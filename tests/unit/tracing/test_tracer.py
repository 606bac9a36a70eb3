"""Which calls are traced, and what is noted of them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from issuer.core.patterns import parse_pattern
from issuer.observing import UNTRACED, Step, Trace
from issuer.tracing.attributes import call_attributes
from issuer.tracing.otlp import export_request
from issuer.tracing.tracer import MAX_STEPS, TracedCall, Tracer

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
METHOD = "issuer_api.v1.IssuerService/IssueToken"
CALLER = "spiffe://dev.test/ns/payments/sa/settler"
TRUSTED = (parse_pattern("spiffe://dev.test/ns/payments/sa/*"),)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def sent_by(tracer_ratio: float, calls: int) -> list[TracedCall]:
    sent: list[TracedCall] = []
    tracer = Tracer(tracer_ratio, (), sent.append)
    for _ in range(calls):
        tracer.ended(tracer.began(tuple, NOW), METHOD, "OK", {})
    return sent


def test_the_ratio_is_that_of_calls_which_are_traced() -> None:
    assert sent_by(0.0, 1000) == []
    assert len(sent_by(1.0, 1000)) == 1000
    assert 2000 < len(sent_by(0.25, 10_000)) < 3000, "more than ten standard deviations"


def test_metadata_is_not_looked_at_while_nobody_is_trusted() -> None:
    def metadata() -> tuple[tuple[str, str], ...]:
        raise AssertionError("looked at")

    assert Tracer(0.0, (), lambda _: None).began(metadata, NOW) is UNTRACED


@pytest.mark.parametrize("caller", [None, "", "not an id", "spiffe://dev.test/ns/reports/sa/x", f"{CALLER}/more"])
def test_a_parent_counts_only_for_whom_it_may(caller: str | None) -> None:
    sent: list[TracedCall] = []
    tracer = Tracer(0.0, TRUSTED, sent.append)
    trace = tracer.began(lambda: [("traceparent", PARENT)], NOW)
    assert tracer.ended(trace, METHOD, "OK", {"caller": caller} if caller is not None else {}) is None
    trace = tracer.began(lambda: [("traceparent", PARENT)], NOW)
    assert tracer.ended(trace, METHOD, "OK", {"caller": CALLER}) == "0af7651916cd43dd8448eb211c80319c"
    assert len(sent) == 1


def test_steps_are_bounded() -> None:
    sent: list[TracedCall] = []
    tracer = Tracer(1.0, (), sent.append)
    trace: Trace = tracer.began(tuple, NOW)
    for _ in range(MAX_STEPS * 2):
        trace.at(Step.DECIDE)
    trace.at(Step.RECORD)
    tracer.ended(trace, METHOD, "OK", {})
    steps = sent[0].trace.steps
    assert steps[-3:] == [Step.DECIDE, Step.MORE, Step.RECORD]
    assert len(steps) == MAX_STEPS + 2
    assert len(export_request(sent, {}).resource_spans[0].scope_spans[0].spans) == MAX_STEPS + 3


def test_only_what_is_listed_becomes_an_attribute() -> None:
    fields = {
        "caller": CALLER,
        "audience": "https://ledger.example",
        "token_id": "secret",
        "token_sha256": "secret",
        "error": "secret",
        "facts": ["secret"],
        "new_field": "secret",
        "reason": "FACT_MISSING",
        "policy": ["not", "a", "text"],
        "legacy": False,
    }
    told = call_attributes(METHOD, "PERMISSION_DENIED", fields, identities=False)
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "PERMISSION_DENIED",
        "issuer.reason": "FACT_MISSING",
        "issuer.token.legacy": False,
    }
    more = call_attributes(METHOD, "PERMISSION_DENIED", fields, identities=True)
    assert more.keys() - told.keys() == {"issuer.caller", "issuer.audience"}


def test_without_traces_nothing_of_them_is_loaded() -> None:
    look = (
        "import sys, issuer.app, issuer.cli.main\n"
        "print([name for name in sys.modules if name.startswith(('issuer.tracing', 'opentelemetry'))])"
    )
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
