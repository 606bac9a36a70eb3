"""Who else is told of what the ledger writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.ledger_entries import Entry


class Copy(Protocol):
    """Where entries go as well, once they are in the ledger."""

    required: bool
    """Whether nobody is answered without it."""
    fault: str | None
    """Why it cannot be written."""

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write entries.

        Raises:
            LedgerFault: It is required, and it is not known whether they are there.
        """
        ...


class Observer(Protocol):
    """Is told what the ledger does, for metrics. Never waits."""

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """A batch is durable, with its required copy."""
        ...

    def refused(self) -> None:
        """A caller was refused because of the ledger."""
        ...

    def failed(self) -> None:
        """A commit failed, or its required copy did."""
        ...


class Unobserved:
    """An :class:`Observer` that looks away."""

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """Do nothing."""

    def refused(self) -> None:
        """Do nothing."""

    def failed(self) -> None:
        """Do nothing."""
