"""The SPIRE agent goes away under a serving issuer, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from support.deployment import DEADLINE, REQUEST, Deployment, reason_of

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
