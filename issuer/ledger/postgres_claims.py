"""The claims in a PostgreSQL ledger, within the transaction of the entries that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from issuer.core.ledger_claims import ClaimRow
from issuer.ledger.claims import CLAIM_COLUMNS, KEPT_MICROSECONDS
from issuer.ledger.schema import CLAIMS
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from issuer.core.ledger_claims import Claim

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

LOCK: Final = 0x5350_4948
"""The class of the lock that who takes claims holds: one at a time, so that their versions are seen in their order."""


async def take_claims(connection: Connection, claims: Sequence[Claim]) -> None:
    """Write claims.

    Raises:
        ClaimTaken: Some are taken. The transaction has to be rolled back.
    """
    if not claims:
        return
    await connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
    times = {claim.key: claim.time for claim in claims}
    found = await connection.execute("SELECT key, expires_at FROM claim WHERE key = ANY(%s)", (list(times),))
    known: dict[str, int] = dict(await found.fetchall())
    if taken := frozenset(key for key, expires_at in known.items() if expires_at > times[key]):
        raise ClaimTaken(taken)
    await connection.execute("DELETE FROM claim WHERE key = ANY(%s)", (list(known),))
    row = await (await connection.execute("SELECT value FROM meta WHERE name = %s", (CLAIMS,))).fetchone()
    version = int((row or ("0",))[0])
    await connection.execute("DELETE FROM claim WHERE expires_at < %s", (claims[0].time - KEPT_MICROSECONDS,))
    insert = f"INSERT INTO claim ({CLAIM_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)"  # noqa: S608 - our own names
    async with connection.cursor() as cursor:
        await cursor.executemany(
            insert.encode(), [(version + number, *claim) for number, claim in enumerate(claims, 1)]
        )
    await connection.execute("UPDATE meta SET value = %s WHERE name = %s", (str(version + len(claims)), CLAIMS))


async def claims_after(connection: Connection, version: int, alive_at: int, limit: int) -> list[ClaimRow]:
    """Return the claims that were taken after a version, in that order, but those that are over."""
    query = f"SELECT {CLAIM_COLUMNS} FROM claim WHERE version > %s AND expires_at > %s ORDER BY version LIMIT %s"  # noqa: S608
    found = await connection.execute(query.encode(), (version, alive_at, limit))
    return [ClaimRow(*row) for row in await found.fetchall()]
