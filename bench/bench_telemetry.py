"""What metrics and traces cost a token: beside the same server without them, and piece by piece in this process."""

from __future__ import annotations

import logging
import statistics
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support.collector import Collector

from bench.load import AUDIENCE, SCOPE
from bench.serving import CALLER, Figures, Server, measure, median, servers
from issuer.core.record import DecisionRecord, Outcome
from issuer.metrics.metrics import Metrics
from issuer.observing import Step
from issuer.system import SystemClock
from issuer.tracing.otlp import export_request
from issuer.tracing.tracer import TracedCall, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

CALLERS = (1, 16)
TURNS = 4
"""Each run is cut into so many turns, in which every kind is measured: the ratios are of neighbours in time."""
METHOD = "issuer_api.v1.IssuerService/IssueToken"
WITHOUT = "without"
_STEPS = tuple(step for step in Step if step is not Step.MORE)
_FIELDS = {
    "caller": CALLER,
    "request_id": "01997e5c-0000-7000-8000-000000000000",
    "decision_id": "01997e5c-0000-7000-8000-000000000001",
    "policy": "sha256:" + 64 * "0",
    "grant_type": "client_credentials",
    "lifetime_s": 600,
    "lifetime_bound": "audience",
    "legacy": False,
}


def measure_telemetry(console: Console, folder: Path, *, runs: int, seconds: float) -> list[dict[str, object]]:
    """Measure tokens without telemetry, with metrics, and with a part or all of the calls traced, in turn."""
    with ExitStack() as stack:
        collector = stack.enter_context(Collector())
        started: dict[str, Server] = {}
        for kind, changes in _kinds(collector.endpoint).items():
            place = folder / kind
            place.mkdir()
            _, started[kind], _ = stack.enter_context(servers(place, **changes))  # type: ignore[arg-type]
        found: dict[tuple[str, int], list[Figures]] = {}
        for turn in range(runs * TURNS):
            console.print(f"telemetry, turn {turn + 1} of {runs * TURNS}", style="dim")
            for callers in CALLERS:
                kinds = list(started) if turn % 2 else list(reversed(started))
                for kind in kinds:
                    figures = measure(started[kind], folder / kind, "token", callers, seconds / TURNS)
                    found.setdefault((kind, callers), []).append(figures)
    medians = {key: median(figures) for key, figures in found.items()}
    return [
        {
            "telemetry": kind,
            "callers": callers,
            "tokens_s": round(figures.requests_per_second),
            "p50_ms": round(figures.p50_ms, 2),
            "p99_ms": round(figures.p99_ms, 2),
            "cpu_us": round(figures.cpu_us_per_request),
            "of_without": round(statistics.median(_ratios(found[kind, callers], found[WITHOUT, callers])), 3),
        }
        for (kind, callers), figures in medians.items()
    ]


def _ratios(mine: list[Figures], without: list[Figures]) -> list[float]:
    """Return the ratio of CPU in each turn: what else the machine does then touches both."""
    return [one.cpu_us_per_request / other.cpu_us_per_request for one, other in zip(mine, without, strict=True)]


def _kinds(endpoint: str) -> dict[str, dict[str, object]]:
    def traced(ratio: float) -> dict[str, object]:
        return {"options": {"tracing": {"endpoint": endpoint, "ratio": ratio}}}

    return {
        WITHOUT: {"module": "bench.untold_issuer"},
        "without, once more": {"module": "bench.untold_issuer"},  # how far apart equal servers are: the noise
        "metrics": {},
        "metrics, 1 % traced": traced(0.01),
        "metrics, all traced": traced(1.0),
    }


def measure_pieces(times: int = 20_000) -> list[dict[str, object]]:
    """Measure what each piece takes in this process, in microseconds of CPU for a token."""
    logging.disable(logging.CRITICAL)
    now = SystemClock().now()
    metrics = Metrics(lambda _audience, _scopes: "low")
    record = _record()
    kept: list[TracedCall] = []
    never, always = Tracer(0.0, (), kept.append), Tracer(1.0, (), lambda call: kept.__setitem__(slice(None), [call]))

    def call(tracer: Tracer) -> None:
        trace = tracer.began(tuple, now)
        for step in _STEPS:
            trace.at(step)
        tracer.ended(trace, METHOD, "OK", _FIELDS)

    def count() -> None:
        metrics.call_ended(METHOD, "OK", 0.001, _FIELDS)
        metrics.committed([record], 0.001)

    call(always)
    eight = kept * 8
    pieces: dict[str, tuple[Callable[[], object], int]] = {
        "metrics of a call and its decision": (
            count,
            1,
        ),
        "a call that is not traced": (lambda: call(never), 1),
        "a call that is traced, on the event loop": (lambda: call(always), 1),
        "its spans as protobuf": (lambda: export_request(eight, {}).SerializeToString(), len(eight)),
    }
    return [
        {"piece": name, "us": round(_microseconds(work, times // of, of), 2)} for name, (work, of) in pieces.items()
    ]


def _microseconds(work: Callable[[], object], times: int, of: int) -> float:
    best = float("inf")
    for _ in range(5):  # the best of five: everything else on the machine only adds
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - started)
    return best / times / of * 1e6


def _record() -> DecisionRecord:
    fields: dict[str, object] = dict.fromkeys(DecisionRecord._fields, "")
    fields |= {"caller": CALLER, "audience": AUDIENCE, "scopes": SCOPE, "outcome": int(Outcome.GRANTED)}
    fields |= {"grant_type": "client_credentials", "token_id": "x", "lifetime": timedelta(minutes=10)}
    return DecisionRecord(**fields)  # type: ignore[arg-type]
