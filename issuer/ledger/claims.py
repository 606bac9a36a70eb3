"""Claims as a store holds them."""

from __future__ import annotations

from typing import Final

from issuer.core.ledger_claims import ClaimRow

CLAIM_COLUMNS: Final = ", ".join(ClaimRow._fields)
KEPT_MICROSECONDS: Final = 24 * 3600 * 1_000_000
"""So long a claim is kept after its time: longer than clocks of replicas differ."""
