"""What the environment tells a workload: the only place of this package that reads it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SPIFFE_ENDPOINT_SOCKET = "SPIFFE_ENDPOINT_SOCKET"
"""SPIFFE Workload Endpoint section 4: where the Workload API is."""
SPIFFE_ISSUER_ADDRESS = "SPIFFE_ISSUER_ADDRESS"
"""Ours: ``host:port`` of the issuer; several with commas between."""
KUBERNETES_EXEC_INFO = "KUBERNETES_EXEC_INFO"
"""client.authentication.k8s.io: what kubectl tells the program that it asks for a token."""
NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""sd_notify(3): where the service manager wants to be told how a service does."""
WATCHDOG_USEC = "WATCHDOG_USEC"
"""sd_watchdog_enabled(3): how often at least, in microseconds."""
WATCHDOG_PID = "WATCHDOG_PID"
"""sd_watchdog_enabled(3): which process is meant."""
XDG_RUNTIME_DIR = "XDG_RUNTIME_DIR"
"""XDG base directories: a folder in memory that only this user reads."""

_GRPC_VERBOSITY = "GRPC_VERBOSITY"
_AT_START = dict(os.environ)  # noqa: TID251 - this is the one place


def from_environment(name: str) -> str | None:
    """Return the value of a variable; an empty one counts as absent."""
    return os.environ.get(name) or None  # noqa: TID251 - this is the one place


def environment_at_start() -> Mapping[str, str]:
    """Return the environment as this process was given it: what a program started on its user's behalf gets."""
    return _AT_START


def silence_grpc() -> None:
    """Keep gRPC's own log from standing between our messages. It reads this when it is imported."""
    os.environ.setdefault(_GRPC_VERBOSITY, "NONE")  # noqa: TID251 - set here, read by gRPC
