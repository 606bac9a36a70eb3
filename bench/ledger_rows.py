"""A large ledger, filled by SQL and not by deciding: its chains are noise, its rows and indexes of the usual shape."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from issuer.ledger.engine import Beginning
from issuer.ledger.rows import COLUMNS
from issuer.ledger.sqlite_ledger import SqliteLedger

if TYPE_CHECKING:
    from pathlib import Path

CALLERS, AUDIENCES, SETS = 2_000, 50, 500
RECENT = 1_000_000
"""So many refusals are of the last 24 hours."""
DAY = 86_400
REFUSED = 0.1
_AT_ONCE = 20_000


async def fill(path: Path, rows: int) -> None:
    """Make a ledger of ``rows`` decisions over 90 days, the last :data:`RECENT` of them refusals of the last day."""
    engine = SqliteLedger(path)
    await engine.open(Beginning(None, None, "store", "writer", 0, "bench"))
    await engine.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -1000000"):
            database.execute(f"PRAGMA {pragma}")
        texts = [f"spiffe://prod.example/ns/team-{n % 40}/sa/workload-{n}" for n in range(CALLERS)]
        texts += [f"https://api-{n}.prod.example" for n in range(AUDIENCES)]
        texts += [f"scope.{n}.read scope.{n}.write grant-{n}" for n in range(SETS)]
        texts += ["SCOPE_NOT_ALLOWED", "FACT_MISSING", "PROHIBITED", "client_credentials", "sha256:" + "0" * 64]
        texts += [f"{os.urandom(32).hex()} {n:x} 1790000000000000" for n in range(CALLERS * 10)]
        database.execute("BEGIN")
        database.executemany("INSERT OR IGNORE INTO text (value) VALUES (?)", ((value,) for value in texts))
        number = dict(database.execute("SELECT value, id FROM text"))
        database.execute("COMMIT")
        _fill(database, rows, [number[value] for value in texts])


def _fill(database: sqlite3.Connection, rows: int, numbers: list[int]) -> None:
    """Insert, then stand the journal where an issuer wants it."""
    chance = random.Random(1)  # noqa: S311 - figures, not secrets
    callers, rest = numbers[:CALLERS], numbers[CALLERS:]
    audiences, rest = rest[:AUDIENCES], rest[AUDIENCES:]
    sets, rest = rest[:SETS], rest[SETS:]
    reasons, (grant_type, policy), svids = rest[:3], rest[3:5], rest[5:]
    end = int(time.time() * 1e6)  # noqa: TID251 - the rows have to end now
    insert = f"INSERT INTO decision ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    pool = os.urandom(1 << 20)

    def row(position: int) -> list[object]:
        recent = position > rows - RECENT
        back = (rows - position) / min(RECENT, rows) if recent else 1 + 89 * (rows - RECENT - position) / rows
        at = end - int(back * DAY * 1e6)
        refused = recent or chance.random() < REFUSED
        who = chance.randrange(CALLERS)
        some = chance.randrange(1 << 19)
        values: dict[str, object] = dict.fromkeys(COLUMNS)
        values |= {
            "writer": 1, "position": position + 1, "time": at, "caller": callers[who],
            "svid": svids[who * 10 + chance.randrange(10)], "grant_type": grant_type,
            "decision_id": (at // 1000).to_bytes(6) + b"\x70" + pool[some : some + 9],
            "audience": audiences[who % AUDIENCES], "scopes_asked": sets[who % SETS], "flags": 0,
            "outcome": 2 if refused else 1, "rules": sets[who % SETS], "policy": policy,
            "hash": pool[some : some + 32],
        }  # fmt: skip
        if refused:
            values["reason"] = reasons[who % 3]
        else:
            values |= {
                "scopes": sets[who % SETS], "application": audiences[who % AUDIENCES], "lifetime": 300,
                "expires_at": at // 1_000_000 + 300, "token_id": pool[some : some + 11].hex(),
                "token_sha256": pool[some + 32 : some + 64],
            }  # fmt: skip
        return list(values.values())

    for start in range(1, rows + 1, _AT_ONCE):
        database.execute("BEGIN")
        database.executemany(insert, map(row, range(start, min(start + _AT_ONCE, rows + 1))))
        database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
