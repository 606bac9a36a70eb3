"""An issuer that keeps signed checkpoints elsewhere notices which ledger it is given."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.deployment import REQUEST, Deployment
from support.eventually import eventually
from support.ledgers import rows

from issuer.core.checkpoint import ledger_keys
from issuer.ledger.checkpoints import CheckpointFile
from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer.signing.key_file import KeyFileSigner
from issuer_testing.issuer_process import IssuerDidNotStart

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.ledger.verification import Verification

OPTIONS = {"ledger": {"checkpoints": "elsewhere/checkpoints.jws", "checkpoint_every": "100ms"}}


def issue(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=10)


def test_what_an_issuer_recorded_is_vouched_for_while_it_runs_and_when_it_stops(tmp_path: Path) -> None:
    folder = tmp_path / "issuer"
    kept = CheckpointFile(folder / "elsewhere" / "checkpoints.jws")

    def verified() -> Verification:
        keys = ledger_keys(KeyFileSigner.open(folder / "keys" / "signing-key.pem").public_keys().jwks.decode())
        return verify_ledger(LedgerReader.sqlite(folder / "ledger" / "ledger.sqlite3"), keys, kept.statements())

    with Deployment(tmp_path, options=OPTIONS) as deployment:
        issue(deployment)
        eventually(lambda: (found := verified()).signed == found.entries == 4)
        deployment.issuer.signal(signal.SIGKILL)
        deployment.issuer.wait()
        deployment.issuer.start()
        issue(deployment)
    found = verified()
    assert (found.chains, found.signed, found.entries, found.faults) == (2, 7, 7, ())


def test_an_older_ledger_that_was_put_back_is_refused_and_so_is_none(tmp_path: Path) -> None:
    ledger, older = tmp_path / "issuer" / "ledger", tmp_path / "older"
    with Deployment(tmp_path, options=OPTIONS) as deployment:
        issue(deployment)
        deployment.issuer.stop()
        shutil.copytree(ledger, older)
        deployment.issuer.start()
        issue(deployment)
        deployment.issuer.stop()
        shutil.rmtree(ledger)
        with pytest.raises(IssuerDidNotStart, match=r"there is no such ledger; put it back"):
            deployment.issuer.start()
        shutil.rmtree(ledger)
        shutil.copytree(older, ledger)
        with pytest.raises(IssuerDidNotStart, match=r"is an older state of the ledger"):
            deployment.issuer.start()
        (tmp_path / "issuer" / "elsewhere" / "checkpoints.jws").write_text("forged\n", encoding="ascii")
        with pytest.raises(IssuerDidNotStart, match=r"its last line is not a checkpoint"):
            deployment.issuer.start()


def test_an_issuer_prunes_by_itself_what_it_need_not_keep(tmp_path: Path) -> None:
    with Deployment(tmp_path, options={"ledger": {"keep": "1h"}}) as deployment:
        issue(deployment)
        deployment.issuer.stop()
        database = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
        with closing(sqlite3.connect(database)) as connection, connection:
            for table in ("decision", "event"):
                connection.execute(f"UPDATE {table} SET time = 0")  # noqa: S608 - as if it had been long ago
        deployment.issuer.start()
        assert deployment.issuer.wait_for("ledger_pruned")["entries"] == 4
    assert rows(database, "SELECT 1 FROM decision") == []
    assert verify_ledger(LedgerReader.sqlite(database)).faults == ()


def test_a_copy_taken_while_the_issuer_runs_can_be_restored(tmp_path: Path) -> None:
    ledger, copy = tmp_path / "issuer" / "ledger" / "ledger.sqlite3", tmp_path / "copy.sqlite3"
    with Deployment(tmp_path) as deployment:
        issue(deployment)
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as running:
            running.execute("VACUUM INTO ?", (str(copy),))
        issue(deployment)
        assert verify_ledger(LedgerReader.sqlite(copy)).faults == ()
        deployment.issuer.stop()
        for part in ledger.parent.glob("ledger.sqlite3*"):
            part.unlink()
        copy.rename(ledger)
        deployment.issuer.start()
        issue(deployment)
    found = verify_ledger(LedgerReader.sqlite(ledger))
    assert (found.chains, found.faults) == (2, ())
    assert len(rows(ledger, "SELECT 1 FROM decision")) == 2, "the one before the copy, and one since"
