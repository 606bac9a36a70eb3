"""The SPIRE agent goes away under a serving issuer, and comes back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from support.deployment import DEADLINE, REQUEST, Deployment, reason_of

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_serves_while_its_svid_lives_then_fails_closed_and_recovers_by_itself(tmp_path: Path) -> None:
    with Deployment(tmp_path, svid_ttl_seconds=10) as deployment, deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
        deployment.identity.api.stop()
        stub.IssueToken(REQUEST, timeout=DEADLINE)

        deployment.issuer.wait_for("readiness", serving=False)
        with pytest.raises(grpc.RpcError) as error:
            stub.IssueToken(REQUEST, timeout=DEADLINE)
        assert (error.value.code(), reason_of(error.value)) == (grpc.StatusCode.UNAVAILABLE, "IDENTITY_UNAVAILABLE")
        assert httpx.get(f"{deployment.issuer.url}/readyz").status_code == 503

        seen = len(deployment.issuer.log())
        deployment.authority.rotate(deployment.identity)
        deployment.identity.api.start()
        deployment.issuer.wait_for("readiness", serving=True, after=seen)
        with deployment.stub() as fresh:
            fresh.IssueToken(REQUEST, timeout=DEADLINE)
        assert httpx.get(f"{deployment.issuer.url}/readyz").status_code == 200


def test_its_svid_rotates_under_load_and_no_call_fails(own_deployment: Deployment) -> None:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()
        callers = [pool.submit(_call_on_fresh_connections, own_deployment, stop) for _ in range(4)]
        for _ in range(5):
            seen = len(own_deployment.issuer.log())
            own_deployment.authority.rotate(own_deployment.identity)
            own_deployment.issuer.wait_for("svid_updated", after=seen)
            own_deployment.issuer.wait_for("rpc", after=len(own_deployment.issuer.log()))
        stop.set()
        assert min(caller.result(DEADLINE) for caller in callers) > 0


def _call_on_fresh_connections(deployment: Deployment, stop: threading.Event) -> int:
    calls = 0
    while not stop.is_set():
        with deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=DEADLINE)
        calls += 1
    return calls


def test_a_connection_is_replaced_when_it_is_old_and_no_call_fails(tmp_path: Path) -> None:
    options = {"server": {"max_connection_age": "1s", "max_connection_age_grace": "1s"}}
    with Deployment(tmp_path, options=options) as deployment, deployment.stub() as stub:
        peers = set()

        def called_on_another_connection() -> bool:
            decision = stub.IssueToken(REQUEST, timeout=DEADLINE).decision_id
            peers.add(deployment.issuer.wait_for("rpc", decision_id=decision)["peer"])
            return len(peers) > 1

        wait_until(called_on_another_connection, what="the connection is replaced", seconds=DEADLINE)


def test_its_svid_rotates_without_a_dropped_call(own_deployment: Deployment) -> None:
    with own_deployment.stub() as before:
        before.IssueToken(REQUEST, timeout=DEADLINE)
        seen = len(own_deployment.issuer.log())
        svid = own_deployment.authority.rotate(own_deployment.identity)
        own_deployment.issuer.wait_for("svid_updated", expires=svid.leaf.not_valid_after_utc.isoformat())
        before.IssueToken(REQUEST, timeout=DEADLINE)
        with own_deployment.stub() as after:
            after.IssueToken(REQUEST, timeout=DEADLINE)
    assert {line["code"] for line in own_deployment.issuer.log()[seen:] if line["event"] == "rpc"} == {"OK"}
