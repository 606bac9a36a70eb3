"""What both clients hold, without an issuer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from agent_client import SyncIssuerClient, WorkloadApiError, forks

if TYPE_CHECKING:
    from pathlib import Path


def test_a_client_that_got_no_thread_works_when_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = SyncIssuerClient("issuer.test:1", workload_api=f"unix://{tmp_path}/none.sock", timeout=5)
    with monkeypatch.context() as starved:
        starved.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            client.list_access()
    assert not forks._watchers
    with client, pytest.raises(WorkloadApiError, match="is the SPIRE agent running"):
        client.list_access()
    assert not forks._watchers
