"""``spire-dev/``: the configuration and the entries that the fixtures use and an SRE reads, written down once.

Beside this module as ``dev``: a link to ``spire-dev`` in a checkout, a copy of it in an installed package.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from issuer_testing.spire.entry import read_entries

if TYPE_CHECKING:
    from issuer_testing.spire.entry import Entry

CONFIGURATION = Path(__file__).with_name("dev")
"""Holds ``server.conf``, ``agent.conf`` and ``entries/``."""


def development_entries(trust_domain: str = "prod.example") -> dict[str, Entry]:
    """Return the entries of ``spire-dev/entries``, moved to a trust domain.

    Returns:
        By file name without its number: ``issuer``, ``settlement-workload``, ``reports-workload``, ``ledger-api``,
        ``refunds-workload``, ``approver``, ``archive-workload``.

    Raises:
        EntryFileError: A file cannot be read.
    """
    files = sorted((CONFIGURATION / "entries").glob("*.json"))
    return {file.stem.partition("-")[2]: _moved(entry, trust_domain) for file in files for entry in read_entries(file)}


def _moved(entry: Entry, trust_domain: str) -> Entry:
    path = entry.spiffe_id.removeprefix("spiffe://").partition("/")[2]
    return replace(entry, spiffe_id=f"spiffe://{trust_domain}/{path}")
