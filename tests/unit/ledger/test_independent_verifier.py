"""docs/LEDGER.md is enough to verify a ledger: this program is written from it, and shares no code with the issuer."""

from __future__ import annotations

import re
import sqlite3
import struct
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from support.ledgers import record, sqlite_ledger

from issuer.core.ledger_entries import Event

PAGE = (Path(__file__).parents[3] / "docs" / "LEDGER.md").read_text(encoding="utf-8")
FIELDS = re.findall(r"^\| `([a-z0-9_]+)` \| ((?:str|bin|int)(?: or nil)?) \|", PAGE, re.MULTILINE)
PERSONAL = {"peer", "intent"}
IN_ROW = {"token_id", "approval", "origin"}


def packed(value: object) -> bytes:
    """MessagePack in shortest form, of what the page says there is."""
    match value:
        case None:
            return b"\xc0"
        case int():
            return integer(value)
        case str():
            data = value.encode()
            return sized(len(data), ((31, 0xA0), (0xFF, 0xD9), (0xFFFF, 0xDA), (0xFFFFFFFF, 0xDB))) + data
        case bytes():
            return sized(len(value), ((0xFF, 0xC4), (0xFFFF, 0xC5), (0xFFFFFFFF, 0xC6))) + value
        case list():
            return sized(len(value), ((15, 0x90), (0xFFFF, 0xDC))) + b"".join(map(packed, value))
    raise TypeError(value)


def integer(value: int) -> bytes:
    assert value >= 0
    for least, code, form in (
        (1 << 32, 0xCF, ">BQ"),
        (1 << 16, 0xCE, ">BI"),
        (1 << 8, 0xCD, ">BH"),
        (128, 0xCC, ">BB"),
    ):
        if value >= least:
            return struct.pack(form, code, value)
    return bytes([value])


def sized(length: int, forms: tuple[tuple[int, int], ...]) -> bytes:
    most, code = next(form for form in forms if length <= form[0])
    if most < 0xFF:
        return bytes([code | length])
    return bytes([code]) + length.to_bytes({0xFF: 1, 0xFFFF: 2, 0xFFFFFFFF: 4}[most], "big")


def field(db: sqlite3.Connection, name: str, kind: str, value: object) -> object:
    if name in PERSONAL:
        return db.execute("SELECT digest FROM personal WHERE id = ?", (value,)).fetchone()[0] if value else b""
    if kind == "str" and name not in IN_ROW:
        return db.execute("SELECT value FROM text WHERE id = ?", (value,)).fetchone()[0] if value else ""
    return {"str": "", "bin": b""}.get(kind) if value is None else value


def entries(db: sqlite3.Connection, writer: int) -> list[tuple[int, bytes, bytes]]:
    names = ", ".join(name for name, _ in FIELDS)
    found = []
    query = f"SELECT position, hash, {names} FROM decision WHERE writer = ?"  # noqa: S608 - the names of the page
    for position, digest, *values in db.execute(query, (writer,)):
        fields = [field(db, name, kind, value) for (name, kind), value in zip(FIELDS, values, strict=True)]
        approval, origin, status = fields[-3:]
        version = 3 if origin or status is not None else 2 if approval else 1
        body = [version, "decision", *fields[: len(fields) - {1: 3, 2: 2, 3: 0}[version]]]
        found.append((position, digest, packed(body)))
    query = "SELECT position, hash, kind, time, actor, detail FROM event WHERE writer = ?"
    for position, digest, *values in db.execute(query, (writer,)):
        found.append((position, digest, packed([1, *values])))
    return sorted(found)


def good_entries(file: Path) -> int:
    """Return how many entries hold, or fail at the first that does not."""
    count = 0
    with closing(sqlite3.connect(file)) as db:
        for (writer,) in db.execute("SELECT id FROM writer").fetchall():
            last = bytes(32)
            for number, (position, digest, body) in enumerate(entries(db, writer), 1):
                last = sha256(last + body).digest()
                assert (position, digest) == (number, last)
                count += 1
    return count


async def test_the_page_is_enough_to_verify_a_ledger(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    for _ in range(2):
        async with sqlite_ledger(file) as ledger:
            await ledger.write(record(intent='{"ticket":"ä"}', ttl_asked=90_000_000, scopes="x " * 200))
            await ledger.write(record(outcome=2, lifetime=None, expires_at=None, token_id="", token_sha256=b""))
            await ledger.write(record(approval='{"id":"a","number":3,"until":4000000000000000}', token_id=""))
            await ledger.write(record(origin="{}", token_id=""), record(status=70_000))
            await ledger.write(Event("policy_in_force", 1, "spiffe://a/b", "{}" + " " * 70_000))
    assert good_entries(file) == 14
