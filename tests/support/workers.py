"""An issuer of several workers, its processes, and a channel to each worker."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import grpc

from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from support.deployment import DEADLINE, REQUEST, SETTLER, Deployment, reason_of
from support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.issuer_process import IssuerProcess

CHILD = b"issuer.workers.child"
DIAL_SECONDS = 2.0
MAX_DIALS = 64
"""So many connections that all land on one of two workers: once in 2 ** 64 times."""


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def command(pid: int) -> list[bytes]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def workers_of(issuer: IssuerProcess) -> dict[int, int]:
    """Return the process of each worker by its place, those that are being started included."""
    commands = {pid: command(pid) for pid in children(issuer.pid)}
    return {int(words[words.index(CHILD) + 1]): pid for pid, words in commands.items() if CHILD in words}


def is_alive(pid: int) -> bool:
    return bool(command(pid))


def serving(issuer: IssuerProcess, after: int) -> set[int]:
    """Return which workers have said since the log's line ``after`` that they serve."""
    lines = issuer.log()[after:]
    return {line["worker"] for line in lines if line.get("event") == "worker_readiness" and line["serving"]}


def kill_and_await_the_next(issuer: IssuerProcess, place: int) -> None:
    after = len(issuer.log())
    os.kill(workers_of(issuer)[place], signal.SIGKILL)
    eventually(lambda: place in serving(issuer, after))


def channel_to_each(deployment: Deployment, stack: ExitStack, spiffe_id: str = SETTLER) -> dict[int, grpc.Channel]:
    """Open channels until there is one to each worker; told apart by the log line of a call."""
    places = set(workers_of(deployment.issuer))
    return _channels(deployment, stack, places, spiffe_id)


def reached(deployment: Deployment, stack: ExitStack, place: int, spiffe_id: str) -> grpc.Channel:
    """Open channels until one leads to this worker, though others do not answer."""
    return _channels(deployment, stack, {place}, spiffe_id)[place]


def _channels(deployment: Deployment, stack: ExitStack, places: set[int], spiffe_id: str) -> dict[int, grpc.Channel]:
    found: dict[int, grpc.Channel] = {}
    issuer, svid = deployment.issuer, deployment.svid(spiffe_id)
    for _ in range(MAX_DIALS):
        channel = stack.enter_context(deployment.channel(svid))
        after = len(issuer.log())
        try:
            pb_grpc.IssuerServiceStub(channel).GetKeySet(pb.GetKeySetRequest(), timeout=DIAL_SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            continue
        found[int(issuer.wait_for("rpc", after=after, caller=spiffe_id)["worker"])] = channel
        if places <= found.keys():
            return found
    raise AssertionError(f"only {sorted(found)} of {sorted(places)} were reached")


class Load:
    """Callers, each with a connection of its own, that ask for tokens one after the other.

    Attributes:
        received: The ids of the tokens that they received.
        failures: Of calls that failed: status, reason and text.
    """

    def __init__(self, deployment: Deployment, callers: int = 8) -> None:
        self.received: list[str] = []
        self.failures: list[tuple[grpc.StatusCode, str, str]] = []
        self._enough = Event()
        self._threads = [Thread(target=self._call, args=(deployment,)) for _ in range(callers)]

    def _call(self, deployment: Deployment) -> None:
        with deployment.stub() as stub:
            while not self._enough.is_set():
                try:
                    self.received.append(stub.IssueToken(REQUEST, timeout=DEADLINE, wait_for_ready=True).token_id)
                except grpc.RpcError as error:
                    self.failures.append((error.code(), reason_of(error), error.details() or ""))

    def wait_for_more(self, tokens: int = 50) -> None:
        seen = len(self.received)
        eventually(lambda: len(self.received) > seen + tokens)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()


def answered_by(issuer: IssuerProcess, after: int) -> Iterator[int]:
    """Yield the worker of each call that was answered since the log's line ``after``."""
    return (line["worker"] for line in issuer.log()[after:] if line.get("event") == "rpc")
