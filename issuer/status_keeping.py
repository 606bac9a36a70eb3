"""What keeps the status lists, put together for whichever process holds the public HTTP listener and the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.ledger.status_marks import LedgerStatusMarks
from issuer.ledger_keeping import ledger_reader
from issuer.settings_of_parts import publishing_of
from issuer.status_publishing import StatusPublisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.ledger_keeping import LedgerKeeping
    from issuer.ports import Clock
    from issuer.signing.signing_keys import SigningKeys


def status_publisher(
    config: Config,
    keeping: LedgerKeeping,
    *,
    signer: SigningKeys,
    clock: Clock,
    show: Callable[[str, str, int], None],
    log: FilteringBoundLogger,
) -> StatusPublisher:
    """Return it; run one for each public listener.

    Args:
        config: What the issuer was told.
        keeping: The ledger, and what is known of it.
        signer: The keys.
        clock: The time.
        show: Shows a signed list: its name, its text, and how many seconds it may be cached.
        log: Where it reports.
    """
    publisher = StatusPublisher(
        publishing_of(config),
        revocations=keeping.revocations,
        is_current=lambda: keeping.ledger.fault is None,
        blocks=keeping.status_blocks,
        marks=LedgerStatusMarks(ledger_reader(config.ledger)),
        signer=signer,
        keys=signer,
        clock=clock,
        show=show,
        log=log,
    )
    signer.watch(publisher.key_changed)
    return publisher
