"""What a store of the ledger does, whichever it is. One caller at a time: :mod:`issuer.ledger.group_commit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.hash_chain import Head, WriterHead
    from issuer.core.ledger_claims import ClaimRow
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
    """What was opened.

    Attributes:
        store: The ledger's id.
        head: The last entry of the chain; of one that was begun, the first.
        chain: The chain, where others write to it as well and one of them began it; ``None`` for the one asked for.
    """

    store: str
    head: Head
    chain: str | None = None


class RevocationRow(NamedTuple):
    """A revocation as a store holds it, in the order of its columns."""

    version: int
    id: str
    time: int
    actor: str
    detail: str
    lifted_time: int | None
    lifted_by: str | None


REVOCATION_COLUMNS: Final = ", ".join(RevocationRow._fields)


class Engine(Protocol):
    """A store of the ledger."""

    name: str
    """For messages; without a secret."""
    shared: bool
    """Whether others write to it too, issuers or workers, so that it has to be asked what they revoked."""

    @property
    def newest(self) -> Head | None:
        """The last entry of the chain, as far as is known, where others write to the very chain; ``None`` elsewhere."""
        ...

    async def open(self, beginning: Beginning) -> Opened:
        """Begin a chain, after what an earlier one of this process left; or join the one that others write to.

        Raises:
            LedgerFault: It cannot be used now.
        """
        ...

    async def commit(self, entries: Sequence[Entry], epoch: int | None = None) -> Head:
        """Write entries in their order; they are durable when this returns. Return the last entry of the chain.

        Args:
            entries: Revocations and lifts never together with decisions: they say which decisions were before them.
            epoch: What the ledger's epoch must be for them to be written; ``None`` for whatever it is.

        Raises:
            EpochMoved: It is another. Nothing was written, and the engine goes on.
            ClaimTaken: An entry claims what is taken. Likewise.
            LedgerFault: It is not known whether they are there. The engine has to be opened again.
        """
        ...

    async def revocations(self, after: int, alive_at: int, limit: int) -> Sequence[RevocationRow]:
        """Return the revocations that changed after a version, in the order of their changes.

        Args:
            after: The version.
            alive_at: Unix seconds; those of tokens that have expired by then are left out.
            limit: At most so many.

        Raises:
            LedgerFault: They cannot be read. The engine has to be opened again.
        """
        ...

    async def claims(self, after: int, alive_at: int, limit: int) -> Sequence[ClaimRow]:
        """Return what was claimed after a version, in the order of versions, but what is over.

        Args:
            after: The version.
            alive_at: Microseconds since 1970 UTC; what is over by then is left out.
            limit: At most so many.

        Raises:
            LedgerFault: They cannot be read. The engine has to be opened again.
        """
        ...

    async def abandon(self) -> None:
        """Give up a commit that does not end. What it wrote is not known; the engine has to be opened again."""
        ...

    async def close(self) -> None:
        """Leave; harmless when it is closed."""
        ...
