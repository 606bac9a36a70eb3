"""Which hosts a token, or the keys that verify it, may go to and come from in the clear."""

from __future__ import annotations

import pytest

from agent_client.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.",
        "a.localhost",
        "localhost.example",
        "127.1",
        "0177.0.0.1",
        "2130706433",
        "0.0.0.0",
        "[::1]",
        "::",
    ],
)
def test_what_another_machine_or_a_resolver_may_answer_for(host: str) -> None:
    assert not is_loopback(host)
