"""Two issuers on one PostgreSQL database: what is revoked at one is revoked at the other."""

from __future__ import annotations

import copy
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.deployment import DEADLINE, POLICY, SETTLER
from support.eventually import eventually
from support.postgres import PostgresServer
from support.revocations import READS, Revocable

from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.issuer_process import IssuerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "spiffe://dev.test/ns/ledger/sa/api"
OWNED = "    application: ledger\n"
SERVED = POLICY.replace(OWNED, f'{OWNED}    servers: ["{SERVER}"]\n', 1) + READS


@pytest.fixture
def two(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Revocable, Revocable]]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        place: dict[str, object] = {"file": None, "postgresql": server.new_database()}
        with Revocable(tmp_path, SERVED, ledger=place, issuer={"url": "http://127.0.0.1:9"}) as one:  # one `iss`
            other = copy.copy(one)
            other.settings = replace(one.settings, folder=tmp_path / "other")
            shutil.copytree(one.settings.folder / "keys", other.settings.folder / "keys")
            other.issuer = IssuerProcess(other.settings)
            with other.issuer:
                yield one, other


def is_active(deployment: Revocable, token: str) -> bool:
    with deployment.stub(deployment.svid(SERVER)) as stub:
        return bool(stub.IntrospectToken(pb.IntrospectTokenRequest(token=token), timeout=DEADLINE).active)


def test_what_is_revoked_at_one_is_revoked_at_both(two: tuple[Revocable, Revocable]) -> None:
    one, other = two
    stopped, single = one.issued().token, other.issued()
    assert is_active(one, single.token)
    assert is_active(other, stopped)
    one.revoke(token_id=single.token_id)
    assert eventually(lambda: not is_active(other, single.token), within=2)
    assert is_active(other, stopped)
    made = one.revoke(workload=SETTLER).revocation
    assert other.outcome() == "REVOKED", "at once: what it decided before is not written"
    assert eventually(lambda: not is_active(other, stopped), within=2)
    other.issuer.signal(signal.SIGKILL)
    other.issuer.wait()
    other.issuer.start()
    assert other.outcome() == "REVOKED"
    other.lift(made.revocation_id)
    assert one.outcome() == "OK"
    assert not is_active(one, stopped)
