"""What is asked of a server, and the load generator (``bench/loadgen``, in Go) that asks it.

The generator runs in a process of its own and costs about a tenth of what a Python client does, so on shared cores it
leaves them to the server. It waits for our word when its connections stand: CPU time is that of the calls alone.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.process_cpu import cpu_seconds
from bench.programs import go_program
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

BATCH_ITEMS = 64
AUDIENCE, SCOPE = "https://ledger.dev.test", "ledger.read"
_SERVICE = "/issuer_api.v1.IssuerService"
_PATIENCE_SECONDS = 60.0
"""Beyond the length of the run: for connections that are made before it, and calls that are under way at its end."""


@dataclass(frozen=True)
class Work:
    """One kind of call.

    Attributes:
        method: The gRPC method, or the path that a form is posted to.
        request: The message, or the form.
        right: Whether the first answer is right. The generator checks the others by their length.
        protocol: ``grpc`` or ``http``.
        items: What one call asks for, in tokens.
    """

    method: str
    request: bytes
    right: Callable[[bytes], bool]
    protocol: str = "grpc"
    items: int = 1


@dataclass(frozen=True)
class Target:
    """A server as the generator meets it.

    Attributes:
        address: ``host:port``.
        server_name: What its certificate must name; empty: its chain alone is checked.
        credentials: A folder with ``roots.pem``, ``chain.pem`` and ``key.pem``.
        pids: Its processes; their descendants count with them.
    """

    address: str
    server_name: str
    credentials: Path
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """How much is asked, and how.

    Attributes:
        callers: Callers at once.
        seconds: For how long.
        connections: What they share; default: one each.
        rate: Calls a second at fixed times (open loop); default: each caller asks again when it is answered.
        think: Seconds that a caller waits between its calls (a population).
        obey: Of a population: whether it waits as long as RetryInfo says.
        handshakes: ``fresh`` or ``resumed`` connections instead of calls; ``call``: each call on one of its own.
        lead: Seconds at the beginning that count neither for latencies nor for goodput.
    """

    callers: int
    seconds: float
    connections: int | None = None
    rate: float | None = None
    think: float | None = None
    obey: bool = False
    handshakes: str | None = None
    lead: float = 0.0


@dataclass(frozen=True)
class Report:
    """What came of it. Latencies are those of calls that succeeded; in an open loop from when each was due.

    Attributes:
        calls: Calls that succeeded.
        seconds: How long it took, until the last answer.
        goodput: Calls a second that were answered between the lead and the end of the load.
        codes: All calls by their status.
        late: Calls of an open loop that began over 1 ms late, for their caller still waited for the last answer.
        resumed: Handshakes that took up an earlier session.
        server_cpu_seconds: What the server used meanwhile.
        load_cpu_seconds: What the generator used.
    """

    calls: int
    seconds: float
    goodput: float
    codes: Mapping[str, int]
    late: int
    resumed: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    server_cpu_seconds: float
    load_cpu_seconds: float


def _one_token(answer: bytes) -> bool:
    return bool(pb.IssueTokenResponse.FromString(answer).token)


def _all_tokens(answer: bytes) -> bool:
    results = pb.BatchIssueTokensResponse.FromString(answer).results
    return len(results) == BATCH_ITEMS and all(result.response.token for result in results)


_ITEM = pb.IssueTokenRequest(audience=AUDIENCE, scopes=[SCOPE])
_BATCH = pb.BatchIssueTokensRequest(requests=[_ITEM] * BATCH_ITEMS)
NULL = Work("/bench.NullService/Null", b"", lambda answer: answer == b"")
WORK = {
    "null": NULL,
    "dial": NULL,
    "token": Work(f"{_SERVICE}/IssueToken", _ITEM.SerializeToString(), _one_token),
    "batch": Work(f"{_SERVICE}/BatchIssueTokens", _BATCH.SerializeToString(), _all_tokens, items=BATCH_ITEMS),
}
"""The calls that our own servers are asked; ``dial`` is a null RPC on a connection of its own."""


class LoadFailed(SystemExit):
    """A call failed, or its answer was wrong."""


def run(target: Target, work: Work, load: Load) -> Report:
    """Put load on a server.

    Raises:
        LoadFailed: A call failed other than by a refusal that says when to ask again, or its answer was wrong. In an
            open loop and a population calls may fail.
        LookupError: The generator cannot be built here.
    """
    command = [str(go_program("loadgen")), *_arguments(target, work, load)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as generator:
        assert generator.stdin is not None  # noqa: S101 - for the type checker: opened as pipes
        assert generator.stdout is not None  # noqa: S101
        ready, _, first = generator.stdout.readline().strip().partition(" ")
        if ready and not load.handshakes and not work.right(base64.b64decode(first)):
            generator.kill()
            raise LoadFailed(f"{work.method} gave a wrong answer")
        before = _cpu_seconds(target)
        if ready:
            generator.stdin.write("go\n")
            generator.stdin.flush()
        told = generator.stdout.readline()
        used = _cpu_seconds(target) - before
        generator.wait(_PATIENCE_SECONDS)
    if generator.returncode:
        raise LoadFailed(f"the load generator failed on {work.method} with {load.callers} callers")
    return Report(server_cpu_seconds=used, **json.loads(told))


def _cpu_seconds(target: Target) -> float:
    return sum(map(cpu_seconds, target.pids))


def _arguments(target: Target, work: Work, load: Load) -> list[str]:
    given = {
        "address": target.address,
        "name": target.server_name,
        "roots": target.credentials / "roots.pem",
        "chain": target.credentials / "chain.pem",
        "key": target.credentials / "key.pem",
        "protocol": work.protocol,
        "method": work.method,
        "request": base64.b64encode(work.request).decode(),
        "callers": load.callers,
        "connections": load.connections,
        "seconds": load.seconds,
        "rate": load.rate,
        "think": None if load.think is None else f"{load.think}s",
        "obey": "true" if load.obey else None,
        "handshakes": load.handshakes,
        "lead": f"{load.lead}s" if load.lead else None,
    }
    return [f"-{name}={value}" for name, value in given.items() if value is not None]
