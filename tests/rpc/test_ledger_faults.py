"""A real issuer whose real ledger fails in every way of the failure matrix: what callers get, and what follows."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest
from support.deployment import REQUEST, Deployment, reason_of
from support.eventually import eventually
from support.failure_matrix import FAILURES, PAGE, page_with_table
from support.postgres import PostgresServer
from support.postgres_relay import PostgresRelay
from support.processes import writer_of

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.failure_matrix import Failure

    from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc

BY_NAME = {failure.name: failure for failure in FAILURES}
AT_THE_ISSUER_PROCESS = {"issuer killed": "test_ledger_kill.py", "clock": "tests/unit/ledger/test_sqlite_ledger.py",
                         "postgres clone": "tests/unit/ledger/test_postgres_ledger.py"}  # fmt: skip
"""Rows that other tests hold."""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as started:
        yield started


def issue(stub: pb_grpc.IssuerServiceStub, failure: Failure) -> str:
    """Ask for a token; return its id, or the reason why there is none. It has to come in time."""
    started = time.monotonic()
    try:
        answer = stub.IssueToken(REQUEST, timeout=20).token_id
    except grpc.RpcError as error:
        answer = reason_of(error)
    assert time.monotonic() - started < failure.within, answer
    return str(answer)


def refused(deployment: Deployment, stub: pb_grpc.IssuerServiceStub, failure: Failure) -> None:
    """See that no token comes, and that the operator learns why."""
    assert issue(stub, failure) == "LEDGER_UNAVAILABLE"

    def told() -> bool:
        if any(failure.seen in line.get("error", "") for line in faults(deployment)):
            return True
        issue(stub, failure)  # another commit: the first call may have been refused before there was one
        return False

    eventually(told)
    assert deployment.issuer.wait_for("readiness", serving=False)


def faults(deployment: Deployment) -> list[dict[str, str]]:
    return [line for line in deployment.issuer.log() if line.get("event") == "ledger_fault"]


def recovers(deployment: Deployment, stub: pb_grpc.IssuerServiceStub) -> None:
    """Wait until there are tokens again."""

    def token() -> bool:
        try:
            return bool(stub.IssueToken(REQUEST, timeout=20).token_id)
        except grpc.RpcError:
            return False

    eventually(token)
    deployment.issuer.wait_for("readiness", serving=True)


class Disk:
    """A ledger in SQLite, and what can be done to it."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.file = folder / "ledger.sqlite3"
        self.aside = folder / "aside"
        self._stack = ExitStack()

    def befall(self, name: str) -> None:
        getattr(self, f"_{name.replace('-', '_')}")()

    def heal(self) -> None:
        self._stack.close()

    def _move(self, source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for part in source.glob("ledger.sqlite3*"):
            part.rename(target / part.name)

    def _deleted(self) -> None:
        self._move(self.folder, self.aside)
        self._stack.callback(self._move, self.aside, self.folder)

    def _replaced(self) -> None:
        self._deleted()
        with closing(sqlite3.connect(self.file)) as other:
            other.execute("CREATE TABLE x (y)")
        self._stack.callback(self.file.unlink)

    def _read_only(self) -> None:
        self.file.chmod(0o400)
        self._stack.callback(self.file.chmod, 0o600)

    def _locked(self) -> None:
        other = self._stack.enter_context(closing(sqlite3.connect(self.file, isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")
        self._stack.callback(other.execute, "ROLLBACK")

    def _full(self) -> None:
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        self._stack.callback(filler.unlink)

    def _killed(self) -> None:
        process = writer_of(self.deployment.issuer.pid)
        os.kill(process, signal.SIGSTOP)  # so that a commit is in its hands when it dies
        Timer(0.3, os.kill, (process, signal.SIGKILL)).start()

    def _stopped(self) -> None:
        process = writer_of(self.deployment.issuer.pid)
        os.kill(process, signal.SIGSTOP)
        self._stack.callback(os.kill, process, signal.SIGCONT)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small disk at ``folder``."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0 or not shutil.which("mount"):
        raise AssertionError("a full disk is tried on a small tmpfs: run the tests as root, with `mount` there")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["deleted", "replaced", "read-only", "locked", "full", "killed", "stopped"])
def test_a_file_that_fails_gives_no_token_and_recovers(name: str, tmp_path: Path) -> None:
    failure, folder = BY_NAME[name], tmp_path / "disk"
    options = {"ledger": {"file": str(folder / "ledger.sqlite3")}}
    with small_disk(folder), Deployment(tmp_path, options=options) as deployment, deployment.stub() as stub:
        first = issue(stub, failure)
        disk = Disk(deployment, folder)
        disk.befall(name)
        try:
            refused(deployment, stub, failure)
        finally:
            disk.heal()
        recovers(deployment, stub)
        deployment.issuer.stop()
        reader = LedgerReader.sqlite(folder / "ledger.sqlite3")
        assert reader.find(first), "what was recorded before is there"
        assert verify_ledger(reader).faults == ()


def test_a_slow_disk_makes_tokens_late(tmp_path: Path) -> None:
    failure = BY_NAME["slow"]
    with Deployment(tmp_path) as deployment, deployment.stub() as stub:
        process, done = writer_of(deployment.issuer.pid), Event()

        def slow() -> None:
            while not done.wait(0.05):
                os.kill(process, signal.SIGSTOP)
                Event().wait(0.3)
                os.kill(process, signal.SIGCONT)

        slowing = Thread(target=slow)
        slowing.start()
        try:
            assert all(len(issue(stub, failure)) > 20 for _ in range(10)), "each is a token"
        finally:
            done.set()
            slowing.join()
        assert not faults(deployment)


@pytest.mark.parametrize("name", ["postgres stopped", "postgres hung", "postgres cut", "postgres empty"])
def test_a_database_that_fails_gives_no_token_and_recovers(
    name: str, tmp_path: Path, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    failure, database = BY_NAME[name], postgres.new_database()
    relayed = tmp_path_factory.mktemp("relay")
    with PostgresRelay(relayed, postgres.folder) as relay, ExitStack() as stack:
        conninfo = database.replace(str(postgres.folder), str(relayed))
        options = {"ledger": {"file": None, "postgresql": conninfo}}
        deployment = stack.enter_context(Deployment(tmp_path, options=options))
        stub = stack.enter_context(deployment.stub())
        first = issue(stub, failure)
        heal = befall_database(name, postgres, relay, database)
        try:
            refused(deployment, stub, failure)
        finally:
            heal()
        recovers(deployment, stub)
        deployment.issuer.stop()
        reader = LedgerReader.postgres(database)
        assert reader.find(first)
        assert verify_ledger(reader).faults == ()


def befall_database(name: str, postgres: PostgresServer, relay: PostgresRelay, database: str) -> Callable[[], None]:
    """Do it, and return what ends it."""
    if name == "postgres stopped":
        postgres.stop()
        return postgres.start
    if name == "postgres hung":
        with psycopg.connect(f"{postgres.conninfo} dbname=postgres") as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'spiffe-issuer'"
            (process,) = [pid for (pid,) in connection.execute(query)]
        os.kill(process, signal.SIGSTOP)
        return lambda: os.kill(process, signal.SIGCONT)
    if name == "postgres cut":
        relay.cut = True

        def heal() -> None:
            assert relay.cuts >= 1
            relay.cut = False

        return heal
    name_now = database.rpartition("=")[2]
    admin = f"{postgres.conninfo} dbname=postgres"

    def rename(*renamings: tuple[str, str]) -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            for old, new in renamings:
                ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                connection.execute(ends, (old,))
                connection.execute(f"ALTER DATABASE {old} RENAME TO {new}".encode())

    rename((name_now, f"{name_now}_old"))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name_now}".encode())
    return lambda: rename((name_now, f"{name_now}_empty"), (f"{name_now}_old", name_now))


def test_every_row_of_the_matrix_is_held_by_a_test_and_shown_to_operators() -> None:
    tried = {"deleted", "replaced", "read-only", "locked", "full", "killed", "stopped", "slow"}
    tried |= {"postgres stopped", "postgres hung", "postgres cut", "postgres empty"}
    assert tried | AT_THE_ISSUER_PROCESS.keys() == BY_NAME.keys()
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page), "run scripts/generate-failure-matrix"
