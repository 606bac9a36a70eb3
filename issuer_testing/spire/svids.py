"""What a Workload API socket gives this process right now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spiffe import X509Svid

FETCH_SECONDS = 5.0


def fetch_svids(socket: str) -> Sequence[X509Svid]:
    """Return this process's SVIDs; none where the Workload API is away, refuses, or knows no identity for us."""
    # Every pytest run loads the plugin, and through it this module: it must not load gRPC before it is needed.
    from spiffe import WorkloadApiClient  # noqa: PLC0415
    from spiffe.errors import PySpiffeError  # noqa: PLC0415

    try:
        client = WorkloadApiClient(socket)
    except PySpiffeError:
        return ()
    try:
        return client.fetch_x509_svids(timeout=FETCH_SECONDS)
    except PySpiffeError:
        return ()
    finally:
        client.close()


def serial_numbers(svids: Sequence[X509Svid]) -> frozenset[int]:
    """Return the serial numbers of the leaves: what tells an SVID from the one before it."""
    return frozenset(svid.leaf.serial_number for svid in svids)
