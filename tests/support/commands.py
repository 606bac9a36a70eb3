"""``issuer`` as an operator types it, at an issuer under test."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.deployment import Deployment


def environment(deployment: Deployment, identity: str) -> dict[str, str]:
    """Return the variables of a shell in which ``identity`` works."""
    return os.environ | {
        "SPIFFE_ENDPOINT_SOCKET": deployment.authority.workload(identity).socket,
        "SPIFFE_ISSUER_ADDRESS": deployment.issuer.address,
    }


def issuer_command(
    deployment: Deployment, *arguments: str, identity: str, said: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``said`` is what is typed into it."""
    ended = subprocess.run(
        [sys.executable, "-m", "issuer", *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=said,
        env=environment(deployment, identity) | variables,
        timeout=90,
    )
    assert "Traceback" not in ended.stderr
    return ended
