"""What a supervisor does with a child that does not end. The rest is in tests/rpc/test_agent_client_cli_exec.py."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.kept_tokens import token

from agent_client.cli import supervisor
from agent_client.cli.signals import NEWS, Arrived, BlockedSignals
from agent_client.cli.supervisor import Hooks, OnRenewal, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 0.1


class Silence(BlockedSignals):
    """Tells of news once, and then nothing: not even the word that the child has ended."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._arriving: Iterator[Arrived | None] = iter([Arrived(NEWS, by_kernel=False, sender=0), *[None] * looks])

    def wait(self, seconds: float) -> Arrived | None:
        self.waits.append(seconds)
        arrived = next(self._arriving)
        if arrived is None:
            time.sleep(seconds)
        return arrived

    @staticmethod
    def tell() -> None:
        """Whoever waits looks anyway."""


def test_a_child_that_even_a_kill_does_not_end_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RESTART_GRACE_SECONDS", GRACE)
    signals = Silence(looks=4)
    with subprocess.Popen(["sleep", "60"]) as child:
        hooks: Any = Hooks(lambda _: child.pid, lambda _: None, lambda: None, lambda _: None, lambda: 30.0)
        watched = Supervisor(signals, hooks, OnRenewal(restart=True))
        for _ in range(2):
            watched.post(token())  # the second one is a reason to start the child anew
        with pytest.raises(StopIteration):
            watched.run()
    assert min(signals.waits[2:]) > GRACE / 2
