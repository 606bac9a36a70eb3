"""What the environment tells a workload: the only place of this package that reads it."""

from __future__ import annotations

import os

SPIFFE_ENDPOINT_SOCKET = "SPIFFE_ENDPOINT_SOCKET"
"""SPIFFE Workload Endpoint section 4: where the Workload API is."""
SPIFFE_ISSUER_ADDRESS = "SPIFFE_ISSUER_ADDRESS"
"""Ours: ``host:port`` of the issuer; several with commas between."""


def from_environment(name: str) -> str | None:
    """Return the value of a variable; an empty one counts as absent."""
    return os.environ.get(name) or None  # noqa: TID251 - this is the one place
