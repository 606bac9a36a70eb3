"""Issuing against revoking, on two workers, while workers and the ledger's process are killed under them.

What clients saw is checked as a history: the moments before which a call had not begun and after which it was answered.
A revocation stops issuance from a moment between its two on, until a moment between the two of its lift, and kills what
was recorded before. So of a token that it hits there can be said from outside:

1. None was asked for after the revocation was answered and received before its lift was begun.
2. One that was received before the lift was begun was recorded before the revocation: it is dead, everywhere.
3. One that was asked for after the last lift was answered is alive, everywhere.

With the second, no token lives whose issuance was answered while a revocation of it held, whenever it was asked for.
"""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

import grpc
from support.deployment import DEADLINE, POLICY, READER, REQUEST, SETTLER, reason_of
from support.eventually import eventually
from support.ledgers import rows
from support.processes import writer_of
from support.revocations import OPERATOR, READS, Revocable
from support.workers import channel_to_each, kill_and_await_the_next

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from issuer_testing.issuer_process import IssuerProcess

T = TypeVar("T")

SERVER = "spiffe://dev.test/ns/ledger/sa/api"
OWNED = "    application: ledger\n"
SERVED = POLICY.replace(OWNED, f'{OWNED}    servers: ["{SERVER}"]\n', 1) + READS
CALLERS = (SETTLER, SETTLER, SETTLER, READER, READER, READER)
SELECTORS = {
    SETTLER: admin.TokenSelector(workload="spiffe://dev.test/ns/payments/**"),
    READER: admin.TokenSelector(rule="reporting"),
}
"""Whose tokens each kind of revocation hits."""
KILLS = 6
PAUSE_SECONDS = 0.01
"""Of each caller between two tokens: there is one processor for them all."""


@dataclass(frozen=True)
class Issued:
    """A token that a client received."""

    began: float
    ended: float
    caller: str
    token: str
    token_id: str


@dataclass(frozen=True)
class Revoked:
    """A revocation that was answered, and its lift."""

    began: float
    ended: float
    hits: str
    lift_began: float
    lift_ended: float


class History:
    """What clients saw, and what has no place in it."""

    def __init__(self) -> None:
        self.issued: list[Issued] = []
        self.revoked: list[Revoked] = []
        self.strange: list[str] = []
        self.killed = Event()
        self.over = Event()

    def assert_nothing_was_issued_while_it_was_stopped(self) -> None:
        for token in self.issued:
            for stop in self.revoked:
                stopped = stop.hits == token.caller and stop.ended <= token.began and token.ended <= stop.lift_began
                assert not stopped, f"{token.token_id} was issued while {stop} held"

    def must_be_dead(self, token: Issued) -> bool:
        return any(stop.hits == token.caller and token.ended <= stop.lift_began for stop in self.revoked)

    def must_live(self, token: Issued) -> bool:
        return all(stop.hits != token.caller or stop.lift_ended <= token.began for stop in self.revoked)


def issue(deployment: Revocable, caller: str, history: History) -> None:
    """Ask for tokens, one after the other."""
    with deployment.stub(deployment.svid(caller)) as stub:
        while not history.over.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                answer = stub.IssueToken(REQUEST, timeout=DEADLINE, wait_for_ready=True)
            except grpc.RpcError as error:
                if reason_of(error) not in {"REVOKED", "LEDGER_UNAVAILABLE", ""}:
                    history.strange.append(f"{error.code()} {error.details()}")
            else:
                history.issued.append(Issued(began, time.monotonic(), caller, answer.token, answer.token_id))


def revoke(deployment: Revocable, history: History) -> None:
    """Revoke, lift a moment later, and again, until all was killed that is to be."""
    chance = random.Random(5)  # noqa: S311 - moments, not secrets
    with deployment.channel(deployment.svid(OPERATOR)) as channel:
        stub = admin_grpc.AdminServiceStub(channel)
        number = 0
        while not history.killed.is_set():
            hits = (SETTLER, READER)[number % 2]
            request = admin.RevokeRequest(reason="x", selector=SELECTORS[hits], request_id=f"revocation-{number}")
            began = time.monotonic()
            made = answered(partial(stub.Revoke, request, timeout=DEADLINE))
            ended = time.monotonic()
            history.over.wait(chance.uniform(0.01, 0.2))
            lift = admin.LiftRevocationRequest(revocation_id=made.revocation.revocation_id)
            lift_began = time.monotonic()
            answered(partial(stub.LiftRevocation, lift, timeout=DEADLINE))
            history.revoked.append(Revoked(began, ended, hits, lift_began, time.monotonic()))
            history.over.wait(chance.uniform(0.01, 0.2))
            number += 1


def answered(call: Callable[[], T]) -> T:
    """Repeat a call until it is answered. A worker that did not make a revocation may learn of it a moment later."""

    def tried() -> T | None:
        try:
            return call()
        except grpc.RpcError as error:
            if reason_of(error) in {"", "LEDGER_UNAVAILABLE", "REVOCATION_UNKNOWN"}:
                return None
            raise

    return eventually(tried)


def kill(deployment: Revocable, history: History) -> None:
    """Kill workers and the ledger's process, each once the last one was replaced."""
    for number in range(KILLS):
        received = len(history.issued)
        eventually(partial(has_received, history, received + 50))
        kill_one(deployment.issuer, place=number % 3)
    history.killed.set()


def kill_one(issuer: IssuerProcess, place: int) -> None:
    """Kill a worker, or for place 0 the ledger's process, and wait for what comes after it."""
    if place:
        kill_and_await_the_next(issuer, place)
        return
    after = len(issuer.log())
    os.kill(writer_of(issuer.pid), signal.SIGKILL)
    issuer.wait_for("ledger_process_ended", after=after)


def has_received(history: History, tokens: int) -> bool:
    return len(history.issued) >= tokens


def living(deployment: Revocable, issued: list[Issued]) -> list[set[str]]:
    """Return which of the tokens each worker says to be alive."""
    with ExitStack() as stack:
        stubs = [pb_grpc.IssuerServiceStub(each) for each in channel_to_each(deployment, stack, SERVER).values()]

        def is_alive(asked: tuple[pb_grpc.IssuerServiceStub, Issued]) -> bool:
            stub, token = asked
            return bool(stub.IntrospectToken(pb.IntrospectTokenRequest(token=token.token), timeout=DEADLINE).active)

        with ThreadPoolExecutor(8) as pool:
            answers = [list(pool.map(is_alive, [(stub, token) for token in issued])) for stub in stubs]
    return [{token.token_id for token, alive in zip(issued, each, strict=True) if alive} for each in answers]


def test_no_token_outlives_a_revocation_that_was_answered_before_it(tmp_path: Path) -> None:
    history = History()
    with Revocable(tmp_path, SERVED, server={"workers": 2}, ledger={"recorded_refusals": 100_000}) as deployment:
        callers = [Thread(target=issue, args=(deployment, caller, history)) for caller in CALLERS]
        others = [Thread(target=work, args=(deployment, history)) for work in (revoke, kill)]
        for thread in (*callers, *others):
            thread.start()
        for thread in others:
            thread.join()
        eventually(partial(has_received, history, len(history.issued) + 50))
        history.over.set()
        for thread in callers:
            thread.join()
        issued = history.issued
        eventually(lambda: len({frozenset(each) for each in living(deployment, issued[-100:])}) == 1)
        (alive, same) = living(deployment, issued)
    assert history.killed.is_set()
    assert history.strange == []
    assert len(history.revoked) >= KILLS
    history.assert_nothing_was_issued_while_it_was_stopped()
    assert alive == same, "every worker says the same"
    assert not {token.token_id for token in issued if history.must_be_dead(token)} & alive
    assert {token.token_id for token in issued if history.must_live(token)} <= alive
    assert alive
    assert len(alive) < len(issued)
    file = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    recorded = {token_id for (token_id,) in rows(file, "SELECT token_id FROM decision WHERE token_id IS NOT NULL")}
    assert {token.token_id for token in issued} <= recorded
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()
