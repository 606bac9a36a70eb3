"""What the transactions of a PostgreSQL ledger hold still while they last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from issuer.core.ledger_entries import RevocationLifted, RevocationMade
from issuer.ledger.schema import EPOCH
from issuer.ports import EpochMoved

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from issuer.core.ledger_entries import Entry

_REVOCATIONS: Final = 0x5350_4947
"""The class of the locks on revocations. Not rows ``FOR SHARE``: those are handed on past a revocation that waits, so
that it could wait for ever; and they write to the row's page at every batch."""
_CHANGING, _DEPENDING = 0, 1
"""Held alone by who changes revocations; shared by decisions that depend on them, alone by a change that they see."""


async def hold_revocations(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], entries: Sequence[Entry], epoch: int | None
) -> None:
    """Hold the revocations still until the transaction ends, as far as the entries depend on them.

    A lock is released after its transaction is visible. The epoch is read by a statement of its own, after the lock
    is held: one and the same would see the state from before it waited.

    Raises:
        EpochMoved: The ledger's epoch is another.
    """
    changes = [entry for entry in entries if isinstance(entry, RevocationMade | RevocationLifted)]
    if changes:
        await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_REVOCATIONS, _CHANGING))
    if any(isinstance(entry, RevocationLifted) or entry.by_attributes for entry in changes):
        await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_REVOCATIONS, _DEPENDING))
    elif epoch is not None:
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (_REVOCATIONS, _DEPENDING))
    if epoch is not None:
        found = await connection.execute("SELECT value FROM meta WHERE name = %s", (EPOCH,))
        if await found.fetchone() != (str(epoch),):
            raise EpochMoved
