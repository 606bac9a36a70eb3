"""Every token that a caller received is in the ledger, whenever the issuer, or the ledger's process, was killed."""

from __future__ import annotations

import os
import random
import signal
from threading import Event, Thread
from typing import TYPE_CHECKING

import grpc
from support.deployment import REQUEST, Deployment, reason_of
from support.eventually import eventually
from support.ledgers import rows
from support.processes import writer_of

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 50
CALLERS = 8


class Load:
    """Callers that ask for tokens, one after the other, and keep the id of each that they received."""

    def __init__(self, deployment: Deployment) -> None:
        self.received: list[str] = []
        self.reasons: set[str] = set()
        self._enough = Event()
        self._threads = [Thread(target=self._call, args=(deployment,)) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, deployment: Deployment) -> None:
        with deployment.stub() as stub:
            while not self._enough.is_set():
                try:
                    self.received.append(stub.IssueToken(REQUEST, timeout=5).token_id)
                except grpc.RpcError as error:
                    self.reasons.add(reason_of(error))

    def wait_for_more(self) -> None:
        """Wait until 20 more tokens were received."""
        seen = len(self.received)
        eventually(lambda: len(self.received) > seen + 20)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()


def in_ledger(file: Path) -> set[str]:
    return {token_id for (token_id,) in rows(file, "SELECT token_id FROM decision WHERE token_id IS NOT NULL")}


def test_every_token_received_is_recorded_when_the_issuer_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    received: list[str] = []
    file = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    with Deployment(tmp_path) as deployment:
        for _ in range(KILLS):
            load = Load(deployment)
            load.wait_for_more()
            Event().wait(chance.uniform(0, 0.05))  # a moment in the middle of whatever is going on
            deployment.issuer.signal(signal.SIGKILL)
            deployment.issuer.wait()
            load.stop()
            received += load.received
            deployment.issuer.start()
    assert len(received) > 20 * KILLS
    assert set(received) <= in_ledger(file)
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()


def test_a_killed_ledger_process_costs_a_pause_and_no_record(tmp_path: Path) -> None:
    file = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    with Deployment(tmp_path) as deployment:
        load = Load(deployment)
        for _ in range(3):
            load.wait_for_more()
            os.kill(writer_of(deployment.issuer.pid), signal.SIGKILL)
        load.wait_for_more()
        load.stop()
    assert load.reasons <= {"LEDGER_UNAVAILABLE"}
    assert set(load.received) <= in_ledger(file)
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()
