"""An issuer with a required copy of its decisions, and what a monitoring system sees of it."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from support.deployment import REQUEST, Deployment, reason_of
from support.eventually import eventually
from support.scraping import scraped

from issuer_testing.free_port import free_port
from issuer_testing.issuer_process import IssuerDidNotStart

if TYPE_CHECKING:
    from pathlib import Path


def metrics(port: int) -> dict[str, float]:
    return {name: value for (name, labels), value in scraped(port).items() if not labels}


def test_a_required_copy_that_is_moved_away_stops_tokens_until_sighup(tmp_path: Path) -> None:
    port, copied = free_port(), tmp_path / "issuer" / "decisions.jsonl"
    options: dict[str, dict[str, object]] = {
        "decision_log": {"path": "decisions.jsonl", "required": True},
        "metrics": {"listen": f"127.0.0.1:{port}"},
    }
    with Deployment(tmp_path, options=options) as deployment, deployment.stub() as stub:
        token_id = stub.IssueToken(REQUEST, timeout=10).token_id
        assert json.loads(copied.read_text().splitlines()[-1])["spiffe_issuer"]["token_id"] == token_id
        copied.rename(copied.with_name("rotated"))
        started = time.monotonic()
        deployment.issuer.wait_for("copy_fault")
        deployment.issuer.wait_for("readiness", serving=False)
        assert time.monotonic() - started < 2, "the file is looked at every 0.4 s; the log is read every so often"
        with pytest.raises(grpc.RpcError) as refused:
            stub.IssueToken(REQUEST, timeout=10)
        assert reason_of(refused.value) == "LEDGER_UNAVAILABLE"
        seen = metrics(port)
        assert seen["issuer_ledger_writable"] == 0
        assert seen["issuer_ledger_refused_requests_total"] == 1
        deployment.issuer.signal(signal.SIGHUP)
        eventually(lambda: metrics(port)["issuer_ledger_writable"] == 1)
        stub.IssueToken(REQUEST, timeout=10)
    assert "token-granted" in copied.read_text()


def test_metrics_tell_what_the_ledger_does(tmp_path: Path) -> None:
    port = free_port()
    with Deployment(tmp_path, options={"metrics": {"listen": f"127.0.0.1:{port}"}}) as deployment:
        with deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=10)
        seen = metrics(port)
        assert seen["issuer_ledger_commit_duration_seconds_count"] >= 2
        assert seen["issuer_ledger_commit_entries_sum"] >= 3
        assert seen["issuer_ledger_waiting_entries"] == 0
        assert seen["issuer_ledger_failed_commits_total"] == 0
        assert seen["issuer_ledger_copy_missed_entries"] == 0


def test_an_address_that_is_taken_is_told_at_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = {"metrics": {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}}
        with (
            pytest.raises(IssuerDidNotStart, match=r"metrics: .* cannot be listened on: Address already in use"),
            Deployment(tmp_path, options=options),
        ):
            pass
