"""Every decision that an issuer under test recorded is decided again, and must come out as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.cli.decisions_replay import Replayed
from issuer.kept_policies import KeptPolicies
from issuer.ledger.reading import MAX_LISTED, LedgerReader
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from pathlib import Path


def assert_replays(file: Path) -> int:
    """Replay the ledger at ``file``; return how many decisions were decided again."""
    reader = LedgerReader.sqlite(file)
    found, last = Replayed(), 0
    compare = found.under_its_own(KeptPolicies(reader))
    while page := reader.after(DecisionsWanted(), last, MAX_LISTED):
        last = page[-1].seq
        for stored in page:
            found.replay(stored, compare, reader)
    assert not found.changes, f"{file}: replayed under its own policy, it gives another answer: {found.changes}"
    assert set(found.skipped) <= {"nothing was decided"}, found.skipped
    return found.replayed
