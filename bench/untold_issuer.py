"""The issuer without telemetry: what that costs is measured against it.

Nothing in the product does this: it is put together here, by metrics that count nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import issuer.telemetry_keeping
from issuer.cli.main import main
from issuer.metrics.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from issuer.core.ledger_entries import Entry


class Silent(Metrics):
    """Metrics that count nothing of what each request does."""

    def call_ended(self, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> None:
        """Do nothing."""

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """Do nothing."""


if __name__ == "__main__":
    vars(issuer.telemetry_keeping)["Metrics"] = Silent
    main()
