from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from agent_client import (
    ClientClosed,
    ClientNotConfigured,
    IssuerClient,
    SyncIssuerClient,
    WorkloadApiError,
    WorkloadApiNotConfigured,
)

if TYPE_CHECKING:
    from pathlib import Path

KINDS = pytest.mark.parametrize("kind", [SyncIssuerClient, IssuerClient])
Kind = type[SyncIssuerClient] | type[IssuerClient]


@KINDS
def test_nothing_runs_before_it_is_used(kind: Kind) -> None:
    before = threading.active_count()
    kind("issuer.test:443", workload_api="unix:///run/agent.sock")
    assert threading.active_count() == before


@KINDS
def test_says_at_once_what_is_not_configured(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    monkeypatch.delenv("SPIFFE_ISSUER_ADDRESS", raising=False)
    with pytest.raises(ClientNotConfigured):
        kind(workload_api="unix:///run/agent.sock")
    with pytest.raises(WorkloadApiNotConfigured):
        kind("issuer.test:443")
    with pytest.raises(ValueError, match="timeout"):
        kind("issuer.test:443", workload_api="unix:///run/agent.sock", timeout=0)


def test_a_timeout_of_one_call_is_checked_too(tmp_path: Path) -> None:
    with (
        SyncIssuerClient("issuer.test:443", workload_api=f"unix://{tmp_path}/agent.sock") as client,
        pytest.raises(ValueError, match="timeout"),
    ):
        client.list_access(timeout=-1)


def test_an_asyncio_client_is_for_one_loop(tmp_path: Path) -> None:
    client = IssuerClient("issuer.test:443", workload_api=f"unix://{tmp_path}/agent.sock", timeout=0.1)
    with pytest.raises(WorkloadApiError):
        asyncio.run(client.list_access())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(client.list_access())
    asyncio.run(client.close())


def test_a_client_that_was_never_used_can_be_closed() -> None:
    client = SyncIssuerClient("issuer.test:443", workload_api="unix:///run/agent.sock")
    client.close()
    with pytest.raises(ClientClosed):
        client.list_access()


async def test_an_asyncio_client_that_was_never_used_can_be_closed() -> None:
    client = IssuerClient("issuer.test:443", workload_api="unix:///run/agent.sock")
    await client.close()
    with pytest.raises(ClientClosed):
        await client.list_access()
