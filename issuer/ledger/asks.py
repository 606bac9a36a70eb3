"""What callers want written, and in which company it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from issuer.core.ledger_claims import claims_of
from issuer.core.ledger_entries import RevocationLifted, RevocationMade
from issuer.ledger.errors import LedgerFault
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

    from issuer.core.ledger_entries import Entry


class Ask(NamedTuple):
    """What one caller wants written, from which revocations it was decided, and what tells the caller how it went."""

    entries: tuple[Entry, ...]
    epoch: int | None
    done: asyncio.Future[None]


def in_batches(asks: list[Ask]) -> Iterator[list[Ask]]:
    """Yield what is written together: each revocation that depends on others alone, other revocations, and the rest."""
    changes = [ask for ask in asks if is_change(ask)]
    yield from ([ask] for ask in changes if ask.epoch is not None)
    yield [ask for ask in changes if ask.epoch is None]
    yield [ask for ask in asks if not is_change(ask)] if changes else asks


def is_change(ask: Ask) -> bool:
    """Return whether this is a revocation or a lift."""
    return isinstance(ask.entries[0], RevocationMade | RevocationLifted)


def unclaimed(batch: Iterable[Ask], is_taken: Callable[[str], bool]) -> list[Ask]:
    """Return what claims nothing that is taken, or that another of the batch claims before it; tell the others."""
    kept, seen = [], set[str]()
    for ask in batch:
        keys = [claim.key for claim in claims_of(ask.entries)]
        taken = frozenset(key for key in keys if key in seen or is_taken(key) or keys.count(key) > 1)
        if taken:
            settle(ask.done, ClaimTaken(taken))
        else:
            seen.update(keys)
            kept.append(ask)
    return kept


def give_up(done: asyncio.Future[None]) -> None:
    """Tell a caller that its time is over."""
    settle(done, LedgerFault("the caller's time is over"))


def fail(batch: Iterable[Ask], fault: str) -> None:
    """Tell callers that nobody knows whether it was written."""
    for ask in batch:
        settle(ask.done, LedgerFault(fault))


def settle(done: asyncio.Future[None], error: Exception) -> None:
    """Tell a caller what went wrong, unless it knows."""
    if not done.done():
        done.set_exception(error)
