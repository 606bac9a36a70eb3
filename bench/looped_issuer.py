"""The issuer without a transport: its own application is called in a loop, in the issuer's process and event loop.

Everything is as in ``issuer serve`` but the listener, which is replaced by calls like h2corn's. Afterwards the parts of
the request path are timed where they are, and the figures are written to a file; then the issuer stops.

Usage: ``python -m bench.looped_issuer serve --config FILE``, with what is wanted as JSON in a file beside that one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import issuer.issuance
from bench.load import WORK
from bench.loop_wanted import WANTED_FILE, Wanted
from issuer.cli.main import main
from issuer.core.admission import FairQueue
from issuer.core.alike_records import AlikeRecords
from issuer.core.refusal_budget import RefusalBudget
from issuer.core.remembered_decisions import RememberedDecisions
from issuer.metrics.metrics import Metrics
from issuer.rpc import h2corn_listener, messages, server
from issuer.rpc.asgi_app import AsgiGrpc
from issuer.rpc.asgi_wire import frame
from issuer.rpc.course import Course
from issuer.signing.es256 import Es256Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc

    from bench.load import Work

_END = "-----END CERTIFICATE-----\n"
_HEADERS = (
    (b":authority", b"issuer"), (b"content-type", b"application/grpc"), (b"user-agent", b"grpc-go/1.83.0"),
    (b"te", b"trailers"), (b"grpc-timeout", b"20S"),
)  # fmt: skip
PARTS: dict[str, tuple[Any, str]] = {
    "read the call of the transport": (server, "call_from_context"),
    "begin: clock, ids, trace": (Course, "begin"),
    "the verdict on the caller, remembered": (Course, "verify"),
    "admission: a turn": (FairQueue, "arrive"),
    "admission: the turn given back": (FairQueue, "leave"),
    "parse the request, remembered": (messages, "token_request_from_proto"),
    "decide, remembered": (RememberedDecisions, "decide"),
    "build the claims": (issuer.issuance, "build_claims"),
    "encode what is signed": (issuer.issuance, "signing_input"),
    "check the claims": (issuer.issuance, "check_claims"),
    "sign": (Es256Signer, "sign_all"),
    "token and its SHA-256": (issuer.issuance, "compact_token"),
    "the record": (AlikeRecords, "record"),
    "budget of refusals": (RefusalBudget, "plan"),
    "the answer": (messages, "fill_in_issued_token"),
    "log line and metrics of the call": (Course, "ended"),
    "metrics of a commit": (Metrics, "committed"),
}


class Looped:
    """Takes the place of a listener's start and stop."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        text = (Path(wanted.credentials) / "chain.pem").read_text()
        self._chain = [part + _END for part in text.split(_END)[:-1]]
        self._work: Work = WORK[wanted.work]
        self._running: asyncio.Task[None] | None = None

    def start(self, handlers: Sequence[grpc.GenericRpcHandler], listener: Any) -> None:  # noqa: ANN401 - looked into
        """Begin to call."""
        app = AsgiGrpc(handlers, listener._settings, listener._log)  # noqa: SLF001 - it is replaced here
        self._running = asyncio.get_running_loop().create_task(self._run(app))

    async def _run(self, app: AsgiGrpc) -> None:
        try:
            await self._measure(app)
        finally:  # without a report, whoever waits for it says so
            os.kill(os.getpid(), signal.SIGTERM)

    async def _measure(self, app: AsgiGrpc) -> None:
        await asyncio.sleep(0.5)  # until the issuer says that it serves
        await self._many(app)  # warm
        whole = await self._many(app)
        times = timed_parts()
        with_timers = await self._many(app)
        calls = len(times["check the claims"])
        parts = {name: sum(taken) / max(calls, 1) * 1e6 for name, taken in times.items()}
        often = {name: len(taken) / max(calls, 1) for name, taken in times.items()}
        told = json.dumps({"cpu_us": whole, "with_timers_us": with_timers, "parts": parts, "times": often})
        await asyncio.to_thread(Path(self._wanted.report).write_text, told)

    async def _many(self, app: AsgiGrpc) -> float:
        """Call for a while, each call in a task of its own as h2corn has it; return a token's CPU in microseconds."""
        calls, until = 0, time.perf_counter() + self._wanted.seconds
        before = time.thread_time()

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < until:
                await asyncio.get_running_loop().create_task(self._one(app))
                calls += 1

        await asyncio.gather(*(caller() for _ in range(self._wanted.callers)))
        return (time.thread_time() - before) / (calls * self._work.items) * 1e6

    async def _one(self, app: AsgiGrpc) -> None:
        request = [{"type": "http.request", "body": frame(self._work.request), "more_body": False}]
        sent: list[Any] = []
        scope = {
            "type": "http", "method": "POST", "path": self._work.method, "headers": list(_HEADERS),
            "client": ("127.0.0.1", 1), "extensions": {"tls": {"client_cert_chain": self._chain}},
        }  # fmt: skip

        async def receive() -> Any:  # noqa: ANN401 - an ASGI event
            return request.pop()

        async def send(event: Any) -> None:  # noqa: ANN401 - likewise
            sent.append(event)

        await app(scope, receive, send)
        if sent[-1]["headers"][0] != (b"grpc-status", b"0"):
            raise RuntimeError(f"refused: {sent[-1]}")


def timed_parts() -> dict[str, list[float]]:
    """Put a timer around each part; return where their times are collected, by part."""
    times: dict[str, list[float]] = defaultdict(list)
    for name, (owner, attribute) in PARTS.items():
        setattr(owner, attribute, _timed(getattr(owner, attribute), times[name]))
    return times


def _timed(part: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    now = time.thread_time

    @wraps(part)
    def timed(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - the part's own
        began = now()
        try:
            return part(*arguments, **more)
        finally:
            times.append(now() - began)

    return timed


if __name__ == "__main__":
    beside = Path(sys.argv[sys.argv.index("--config") + 1]).with_name(WANTED_FILE)
    looped = Looped(Wanted(**json.loads(beside.read_text())))

    async def _start(self: Any, handlers: Sequence[grpc.GenericRpcHandler]) -> None:  # noqa: ANN401
        looped.start(handlers, self)

    async def _stop(self: Any, grace: float) -> None:  # noqa: ANN401
        pass

    vars(h2corn_listener)["H2cornListener"].start = _start
    vars(h2corn_listener)["H2cornListener"].stop = _stop
    main()
