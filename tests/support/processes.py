"""The processes of an issuer."""

from __future__ import annotations

from pathlib import Path


def writer_of(issuer: int) -> int:
    """Return the process that owns the ledger: the issuer's child that runs it."""
    for task in Path(f"/proc/{issuer}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            if b"issuer.ledger.sqlite_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError("the issuer has no process for its ledger")
