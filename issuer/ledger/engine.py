"""What a store of the ledger does, whichever it is. One caller at a time: :mod:`issuer.ledger.group_commit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.hash_chain import Head, WriterHead
    from issuer.core.ledger_entries import Entry


class Beginning(NamedTuple):
    """What a writer begins its chain with.

    Attributes:
        pinned: The id of the ledger in use, which it must still be; ``None`` for the first time.
        last: The last entry that is known to have been durable, which must still be there; ``None`` for the first time.
        new_store: The id to give to a ledger that is new.
        writer: A fresh id for this chain.
        time: Microseconds since 1970 UTC.
        program: What writes.
    """

    pinned: str | None
    last: WriterHead | None
    new_store: str
    writer: str
    time: int
    program: str


class Opened(NamedTuple):
    """What was opened: the ledger's id, and the first entry of the new chain."""

    store: str
    head: Head


class Engine(Protocol):
    """A store of the ledger."""

    name: str
    """For messages; without a secret."""

    async def open(self, beginning: Beginning) -> Opened:
        """Begin a chain, after what an earlier one of this process left.

        Raises:
            LedgerFault: It cannot be used now.
        """
        ...

    async def commit(self, entries: Sequence[Entry]) -> Head:
        """Write entries in their order; they are durable when this returns. Return the last entry of the chain.

        Raises:
            LedgerFault: It is not known whether they are there. The engine has to be opened again.
        """
        ...

    async def abandon(self) -> None:
        """Give up a commit that does not end. What it wrote is not known; the engine has to be opened again."""
        ...

    async def close(self) -> None:
        """Leave; harmless when it is closed."""
        ...
