"""Envoy, set up by the README's command, in front of an API that verifies nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from support.envoy import running_envoy
from support.examples import commands, run
from support.open_api import open_api

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_testing.development import Development

Environment = dict[str, str]


def test_only_who_may_gets_through(settler: Environment, development: Development, tmp_path: Path) -> None:
    configure, _, start = commands()["envoy/"].partition(" > ")
    assert start == "envoy-ledger.yaml && envoy --config-path envoy-ledger.yaml"
    with open_api() as api, development.issuer.client(development.settler) as client:
        done = run(configure.replace("127.0.0.1:8003", api).replace("--port 8004", "--port 0"), settler)
        assert done.returncode == 0, done.stderr
        issued = client.issue_token("https://ledger.prod.example", ["ledger.read"])
        with running_envoy(done.stdout, tmp_path) as envoy:
            answer = httpx.get(envoy, headers={"Authorization": f"Bearer {issued.token.reveal()}"})
            assert (answer.status_code, answer.text) == (200, development.settler.spiffe_id)
            assert httpx.get(envoy).status_code == 401
