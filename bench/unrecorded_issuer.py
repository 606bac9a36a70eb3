"""The issuer with the ledger's commit replaced by nothing: what the ledger costs is measured against it.

Nothing in the product does this: it is put together here, by another engine behind the same queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import issuer.ledger_keeping
from issuer.cli.main import main
from issuer.core.hash_chain import BEFORE_FIRST, Head
from issuer.ledger.engine import Opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.ledger_claims import ClaimRow
    from issuer.core.ledger_entries import Entry
    from issuer.ledger.engine import Beginning, RevocationRow


class Nothing:
    """An engine that keeps nothing."""

    name = "nothing"
    shared = False
    newest: Head | None = None

    async def open(self, beginning: Beginning) -> Opened:
        """Begin."""
        return Opened(beginning.new_store, Head(1, bytes(32)))

    async def commit(self, entries: Sequence[Entry], epoch: int | None = None) -> Head:  # noqa: ARG002 - as the port
        """Forget the entries."""
        return BEFORE_FIRST

    async def revocations(self, after: int, alive_at: int, limit: int) -> list[RevocationRow]:  # noqa: ARG002 - as above
        """Know of none."""
        return []

    async def claims(self, after: int, alive_at: int, limit: int) -> list[ClaimRow]:  # noqa: ARG002 - as above
        """Know of none."""
        return []

    async def abandon(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    issuer.ledger_keeping.ledger_engine = lambda section: Nothing()  # noqa: ARG005 - as the function has it
    main()
