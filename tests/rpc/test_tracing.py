"""Traces of a real issuer, as a collector receives them; and collectors that hang, refuse or are slow."""

from __future__ import annotations

import hashlib
import socket
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from support.collector import Collector, attributes, children, takes
from support.deployment import ISSUER_ID, LEDGER, READER, REQUEST, SETTLER, Deployment, reason_of
from support.eventually import eventually
from support.https import write_certificate
from support.scraping import scraped, value

from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.free_port import free_port
from issuer_testing.issuer_process import IssuerDidNotStart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

ISSUE = "issuer_api.v1.IssuerService/IssueToken"
STEPS = [
    "verify_caller",
    "wait_turn",
    "parse_request",
    "fetch_facts",
    "decide",
    "build_claims",
    "check_claims",
    "sign",
    "record",
    "release",
]
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"),)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def traced(folder: Path, collector: Collector, **tracing: object) -> Deployment:
    port = free_port()
    options: dict[str, dict[str, object]] = {
        "tracing": {"endpoint": collector.endpoint, "ratio": 1.0, **tracing},
        "metrics": {"listen": f"127.0.0.1:{port}"},
    }
    deployment = Deployment(folder, options=options)
    deployment.metrics_port = port  # type: ignore[attr-defined]
    return deployment


def calls(collector: Collector, count: int = 1) -> list[Span]:
    """Wait for the spans of so many calls of IssueToken."""

    def arrived() -> list[Span] | None:
        found = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER and span.name == ISSUE]
        return found if len(found) >= count else None

    return eventually(arrived)


def test_a_token_is_a_trace_with_a_span_for_each_step(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector) as deployment:
        with deployment.stub() as stub:
            before = time.time_ns()
            answer = stub.IssueToken(REQUEST, timeout=10)
            after = time.time_ns()
        (call,) = calls(collector)
        line = deployment.issuer.wait_for("rpc", code="OK", method=ISSUE)
    steps = children(collector.spans, call)
    assert [step.name for step in steps] == STEPS
    assert all(step.kind == Span.SPAN_KIND_INTERNAL for step in steps)
    assert before - 1_000_000 <= call.start_time_unix_nano <= call.end_time_unix_nano <= after + 1_000_000
    times = [call.start_time_unix_nano, *(step.start_time_unix_nano for step in steps)]
    assert times == sorted(times)
    ends = [step.end_time_unix_nano for step in steps]
    begins = [step.start_time_unix_nano for step in steps]
    assert ends[0] == begins[1]
    assert ends[2:-1] == begins[3:], "no time is unaccounted for"
    assert ends[-1] == call.end_time_unix_nano
    assert call.parent_span_id == b""
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)
    assert line["trace_id"] == call.trace_id.hex()
    told = attributes(call)
    assert told["rpc.system.name"] == "grpc"
    assert told["rpc.method"] == ISSUE
    assert told["rpc.response.status_code"] == "OK"
    assert told["issuer.decision_id"] == answer.decision_id
    assert told["issuer.grant_type"] == "client_credentials"
    assert call.status.code == Status.STATUS_CODE_UNSET


def test_no_token_and_no_identity_is_in_any_span(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector) as deployment, deployment.stub() as stub:
        answer = stub.IssueToken(REQUEST, timeout=10)
        with deployment.stub(deployment.svid(READER)) as other, pytest.raises(grpc.RpcError):
            other.IssueToken(REQUEST, timeout=10)
        calls(collector, 2)
    sent = b"".join(collector.bodies)
    parts = answer.token.split(".")
    digest = hashlib.sha256(answer.token.encode()).hexdigest()
    for secret in (answer.token, *parts, digest, answer.token_id, SETTLER, READER, ISSUER_ID, LEDGER, "spiffe://"):
        assert secret.encode() not in sent, "spans tell something that they must not"
    assert b"127.0.0.1" not in sent


def test_identities_are_told_where_that_is_configured_and_tokens_still_are_not(
    tmp_path: Path, collector: Collector
) -> None:
    with traced(tmp_path, collector, identities=True) as deployment, deployment.stub() as stub:
        answer = stub.IssueToken(REQUEST, timeout=10)
        (call,) = calls(collector)
    told = attributes(call)
    assert (told["issuer.caller"], told["issuer.audience"], told["issuer.application"]) == (SETTLER, LEDGER, "payments")
    sent = b"".join(collector.bodies)
    for secret in (answer.token, answer.token.split(".")[2], answer.token_id):
        assert secret.encode() not in sent


def test_a_denial_is_no_error_of_the_span(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector) as deployment, deployment.stub(deployment.svid(READER)) as stub:
        with pytest.raises(grpc.RpcError) as denied:
            stub.IssueToken(REQUEST, timeout=10)
        (call,) = calls(collector)
    assert call.status.code == Status.STATUS_CODE_UNSET
    told = attributes(call)
    assert told["rpc.response.status_code"] == "PERMISSION_DENIED"
    assert told["issuer.reason"] == reason_of(denied.value)
    assert "error.type" not in told
    steps = [step.name for step in children(collector.spans, call)]
    assert steps == ["verify_caller", "wait_turn", "parse_request", "fetch_facts", "decide", "record", "release"]


def test_a_fault_of_the_issuer_is_an_error_of_the_step_in_which_the_call_ended(
    tmp_path: Path, collector: Collector
) -> None:
    with traced(tmp_path, collector) as deployment, deployment.stub() as stub:
        (deployment.settings.folder / "ledger" / "ledger.sqlite3").rename(tmp_path / "gone")
        with pytest.raises(grpc.RpcError) as refused:
            stub.IssueToken(REQUEST, timeout=10)
        assert reason_of(refused.value) == "LEDGER_UNAVAILABLE"
        (call,) = calls(collector)
    assert call.status.code == Status.STATUS_CODE_ERROR
    assert attributes(call)["error.type"] == "LEDGER_UNAVAILABLE"
    *before, last = children(collector.spans, call)
    assert (last.name, last.status.code) == ("record", Status.STATUS_CODE_ERROR)
    assert {step.status.code for step in before} == {Status.STATUS_CODE_UNSET}


def test_a_caller_whose_svid_is_refused_is_traced_up_to_there(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector, trusted_callers=[SETTLER]) as deployment:
        with deployment.stub(deployment.svid(uris=(SETTLER, READER))) as stub, pytest.raises(grpc.RpcError):
            stub.IssueToken(REQUEST, timeout=10, metadata=SAMPLED)
        (call,) = calls(collector)
    assert attributes(call)["issuer.reason"] == "SVID_URI_SAN_MULTIPLE"
    assert [step.name for step in children(collector.spans, call)] == ["verify_caller"]
    assert call.trace_id.hex() != TRACE_ID, "it was not verified, whoever its certificate names"


@pytest.mark.parametrize("trusted", [[], [READER], ["spiffe://other.test/**"]])
def test_a_caller_that_may_not_chooses_no_trace(tmp_path: Path, collector: Collector, trusted: list[str]) -> None:
    with traced(tmp_path, collector, trusted_callers=trusted) as deployment, deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=10, metadata=SAMPLED)
        stub.IssueToken(REQUEST, timeout=10, metadata=NOT_SAMPLED)
        found = calls(collector, 2)
    assert TRACE_ID not in {call.trace_id.hex() for call in found}
    assert {call.parent_span_id for call in found} == {b""}


def test_a_caller_that_may_not_gets_nothing_traced_by_asking(tmp_path: Path, collector: Collector) -> None:
    settings = {"ratio": 0.0, "trusted_callers": [READER]}
    with traced(tmp_path, collector, **settings) as deployment:
        with deployment.stub() as stub:
            for _ in range(20):
                stub.IssueToken(REQUEST, timeout=10, metadata=SAMPLED)
        with deployment.stub(deployment.svid(READER)) as stub, pytest.raises(grpc.RpcError):
            stub.IssueToken(REQUEST, timeout=10, metadata=SAMPLED)
        (call,) = calls(collector)
    assert attributes(call)["rpc.response.status_code"] == "PERMISSION_DENIED", "that of the one who may"


def test_a_trusted_caller_continues_its_trace_and_says_whether_it_is_kept(tmp_path: Path, collector: Collector) -> None:
    settings = {"ratio": 0.0, "trusted_callers": ["spiffe://dev.test/ns/payments/sa/*"]}
    with traced(tmp_path, collector, **settings) as deployment, deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=10, metadata=NOT_SAMPLED)
        stub.IssueToken(REQUEST, timeout=10)
        stub.IssueToken(REQUEST, timeout=10, metadata=SAMPLED)
        (call,) = calls(collector)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert call.flags & 0x200, "its parent is in another process"


def test_a_trusted_caller_that_does_not_want_a_trace_gets_none(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector, trusted_callers=[SETTLER]) as deployment, deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=10, metadata=NOT_SAMPLED)
        stub.IssueToken(REQUEST, timeout=10)
        (call,) = calls(collector)
    assert call.trace_id.hex() != TRACE_ID


def test_a_trusted_caller_continues_its_trace_in_a_batch(tmp_path: Path, collector: Collector) -> None:
    batch = pb.BatchIssueTokensRequest(requests=[REQUEST] * 64)
    settings = {"ratio": 0.0, "trusted_callers": [SETTLER]}
    with traced(tmp_path, collector, **settings) as deployment, deployment.stub() as stub:
        stub.BatchIssueTokens(batch, timeout=10, metadata=SAMPLED)
        eventually(lambda: collector.spans)
    (call,) = (span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER)
    assert call.trace_id.hex() == TRACE_ID
    assert attributes(call)["issuer.batch.items"] == 64
    steps = [step.name for step in children(collector.spans, call)]
    assert steps[-3:] == ["more", "record", "release"]
    assert len(steps) <= 131, "spans are bounded, whatever a batch holds"


def hangs(collector: Collector) -> None:
    collector.answer = lambda _request: (collector.closing.wait(), None)[1]


def refuses(collector: Collector) -> None:
    collector.answer = lambda request: request.send_error(503)


def drips(collector: Collector) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        while not collector.closing.wait(0.1):
            request.wfile.write(b"x")

    collector.answer = answer


def floods(collector: Collector) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(1 << 30))
        request.end_headers()
        while not collector.closing.is_set():
            request.wfile.write(bytes(65536))

    collector.answer = answer


@pytest.mark.parametrize("misbehave", [hangs, refuses, drips, floods])
def test_a_collector_that_misbehaves_touches_no_request(
    tmp_path: Path, collector: Collector, misbehave: object
) -> None:
    misbehave(collector)  # type: ignore[operator]
    with traced(tmp_path, collector, timeout="500ms", max_queue=5) as deployment:
        with deployment.stub() as stub:
            slowest = 0.0
            for _ in range(100):
                started = time.monotonic()
                stub.IssueToken(REQUEST, timeout=10)
                slowest = max(slowest, time.monotonic() - started)
        port = deployment.metrics_port  # type: ignore[attr-defined]
        eventually(lambda: value(scraped(port), "issuer_traces_dropped_total") == 100)
        seen = scraped(port)
        assert value(seen, "issuer_traces_dropped_total", cause="not_taken") >= 5
        if misbehave in {hangs, drips}:  # the others are over quickly, and the queue is empty again
            assert value(seen, "issuer_traces_dropped_total", cause="no_room") > 0, "the queue is bounded"
        assert value(seen, "issuer_tokens_issued_total") == 100
        assert deployment.issuer.wait_for("traces_away")["level"] == "warning"
        collector.answer = takes
        with deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=10)
        deployment.issuer.wait_for("traces_back")
        assert sum(line["event"] == "traces_away" for line in deployment.issuer.log()) == 1
    assert slowest < 2.0, "a request waits for no collector; most of this is for a busy machine"


def test_an_issuer_stops_in_time_though_its_collector_hangs(tmp_path: Path, collector: Collector) -> None:
    hangs(collector)
    with traced(tmp_path, collector, timeout="1m") as deployment:
        with deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=10)
        eventually(lambda: collector.bodies)
        started = time.monotonic()
        deployment.issuer.stop()
        assert deployment.issuer.wait() == 0
        assert time.monotonic() - started < 10


def test_what_is_queued_is_sent_when_the_issuer_stops(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector) as deployment, deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=10)
    assert len([span for span in collector.spans if span.name == ISSUE]) == 1


def test_an_issuer_serves_without_any_collector(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces"
        options = {"tracing": {"endpoint": endpoint, "ratio": 1.0}}
        with Deployment(tmp_path, options=options) as deployment, deployment.stub() as stub:
            assert stub.IssueToken(REQUEST, timeout=10).token
            assert "refused" in deployment.issuer.wait_for("traces_away")["error"]


def test_a_collector_is_known_by_its_certificate(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    with Collector((certificate, key)) as collector:
        with traced(tmp_path, collector, ca_file=str(certificate)) as deployment, deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=10)
            calls(collector)
        (elsewhere := tmp_path / "elsewhere").mkdir()
        with traced(elsewhere, collector) as deployment, deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=10)
            assert "CERTIFICATE_VERIFY_FAILED" in deployment.issuer.wait_for("traces_away")["error"]
        assert len([span for span in collector.spans if span.name == ISSUE]) == 1


def test_authorities_that_cannot_be_read_are_told_at_the_start(tmp_path: Path) -> None:
    options = {"tracing": {"endpoint": "https://collector.example/v1/traces", "ca_file": "missing.pem"}}
    with (
        pytest.raises(IssuerDidNotStart, match=r"\[tracing\] ca_file: .*missing\.pem"),
        Deployment(tmp_path, options=options),
    ):
        pass
