"""Every limit that can be set reaches the part that keeps it."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from issuer.app import App
from issuer.config import load_config
from issuer.core.admission import Limits
from issuer.rpc.server import server_options
from issuer.rpc.settings import RpcSettings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = RpcSettings(
    listen="127.0.0.1:0",
    max_message_bytes=1,
    max_metadata_bytes=2,
    max_concurrent_streams=3,
    max_connection_age=timedelta(seconds=4),
    max_connection_age_grace=timedelta(seconds=5),
    max_connections=6,
    handshake_timeout=timedelta(seconds=7),
    max_connection_idle=timedelta(seconds=8),
    keepalive_time=timedelta(seconds=9),
    keepalive_timeout=timedelta(seconds=10),
    min_ping_interval=timedelta(seconds=11),
)
CONFIG = """\
[issuer]
url = "https://issuer.example"
[policy]
path = "policy"
[keys]
file = "key.pem"
[ledger]
file = "ledger.sqlite3"
[server]
max_turns = 3
max_waiting = 300
max_wait = "7s"
max_calls = 9
"""


@pytest.mark.parametrize("name", [each.name for each in fields(RpcSettings) if each.name != "listen"])
def test_each_limit_of_connections_is_told_to_grpc(name: str) -> None:
    now = getattr(SETTINGS, name)
    changes: dict[str, Any] = {name: not now if isinstance(now, bool) else now * 100}
    more = replace(SETTINGS, **changes)
    assert server_options(more) != server_options(SETTINGS)


def test_the_limits_of_calls_are_those_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "issuer.toml"
    path.write_text(CONFIG, encoding="utf-8")
    turns = App(load_config(path, {}), insecure_dev=False, log=structlog.get_logger())._turns()
    assert turns._queue._limits == Limits(turns=3, waiting=300, wait_seconds=7.0)
    assert turns._most_calls == 9
