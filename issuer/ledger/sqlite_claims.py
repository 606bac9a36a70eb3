"""The claims in an SQLite ledger. Blocking; within the transaction of the entries that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.ledger.claims import CLAIM_COLUMNS, KEPT_MICROSECONDS
from issuer.ledger.schema import CLAIMS
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from issuer.core.ledger_claims import Claim


def take_claims(db: sqlite3.Connection, claims: Sequence[Claim]) -> None:
    """Write claims.

    Raises:
        ClaimTaken: Some are taken. The transaction has to be rolled back.
    """
    if not claims:
        return
    query = "SELECT key FROM claim WHERE key = ? AND expires_at > ?"
    if taken := frozenset(claim.key for claim in claims if db.execute(query, (claim.key, claim.time)).fetchone()):
        raise ClaimTaken(taken)
    version = int(db.execute("SELECT value FROM meta WHERE name = ?", (CLAIMS,)).fetchone()[0])
    db.executemany("DELETE FROM claim WHERE key = ?", [(claim.key,) for claim in claims])  # their time was over
    db.execute("DELETE FROM claim WHERE expires_at < ?", (claims[0].time - KEPT_MICROSECONDS,))
    db.executemany(
        f"INSERT INTO claim ({CLAIM_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
        [(version + number, *claim) for number, claim in enumerate(claims, 1)],
    )
    db.execute("UPDATE meta SET value = ? WHERE name = ?", (str(version + len(claims)), CLAIMS))


def claims_after(db: sqlite3.Connection, version: int, alive_at: int, limit: int) -> list[tuple[object, ...]]:
    """Return the claims that were taken after a version, in that order, but those that are over."""
    query = f"SELECT {CLAIM_COLUMNS} FROM claim WHERE version > ? AND expires_at > ? ORDER BY version LIMIT ?"  # noqa: S608
    return db.execute(query, (version, alive_at, limit)).fetchall()
