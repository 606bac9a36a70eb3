"""The ledger in an SQLite file: one writer at a time, each batch one transaction that is on disk when it is done.

Blocking: :mod:`issuer.ledger.sqlite_process` runs it in a process of its own.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from issuer.core.hash_chain import BEFORE_FIRST, Head, extend
from issuer.core.ledger_claims import claims_of
from issuer.core.ledger_entries import (
    WRITER_STARTED,
    Checkpoint,
    Event,
    KeptPolicy,
    PrunedTo,
    RevocationLifted,
    RevocationMade,
    StepTaken,
    Sweep,
    detail,
)
from issuer.core.record import DecisionRecord
from issuer.core.record_encoding import SALT_BYTES, event_body, salted
from issuer.ledger.engine import REVOCATION_COLUMNS
from issuer.ledger.errors import LedgerFault
from issuer.ledger.rows import MAX_CACHED_TEXTS, SharedRows, present_columns
from issuer.ledger.schema import EPOCH, SWEEP_CHECKPOINTS, SWEEP_WRITERS, check_is
from issuer.ledger.sqlite_claims import claims_after, take_claims
from issuer.ledger.sqlite_file import connect, open_file, prepare_tables, sqlite_url
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.ledger_entries import Entry
    from issuer.ledger.rows import Value
    from issuer.ledger.sqlite_file import Opening

_INSERT_EVENT: Final = (
    "INSERT INTO event (writer, position, kind, time, actor, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Batch(NamedTuple):
    """What one writer wants written, and what the ledger's epoch must be for that; ``None`` for whatever it is."""

    entries: Sequence[Entry]
    epoch: int | None


class SqliteStore:
    """An open ledger, with this writer's own chain.

    After any fault it is closed, and a new one has to be opened: what a failed commit left behind is then looked up.

    Raises:
        LedgerFault: It cannot be opened, another process writes to it, or it is another ledger than the pinned one.
    """

    def __init__(self, opening: Opening) -> None:
        self.path = opening.path
        self._file = open_file(opening.path, create=opening.pinned is None)
        try:
            self.store_id = prepare_tables(opening)
            self._db = connect(opening)
        except BaseException:
            os.close(self._file)
            raise
        self.writer = opening.writer
        self.head = BEFORE_FIRST
        self._texts: dict[str, int] = {}
        self._personal: dict[str, tuple[bytes, int]] = {}
        self._shared = SharedRows(self._text, self._personal_text)
        self._epoch = 0
        try:
            self._start_chain(opening)
        except BaseException:
            self.close()
            raise

    def commit(self, entries: Sequence[Entry], epoch: int | None = None) -> Head:
        """Write entries and return when they are on disk.

        Args:
            entries: Revocations and lifts never together with decisions.
            epoch: What the ledger's must be; ``None`` for whatever it is.

        Raises:
            EpochMoved: It is another. Nothing was written.
            ClaimTaken: An entry claims what is taken. Nothing was written.
            LedgerFault: They may or may not be there. The store is closed.
        """
        (outcome,) = self.commit_together([Batch(entries, epoch)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def commit_together(self, batches: Sequence[Batch]) -> list[Head | EpochMoved | ClaimTaken]:
        """Write what several want written in one transaction, and return when it is on disk, how it went for each.

        They count as one after the other: a revocation that comes before a decision moves the epoch for it.

        Raises:
            LedgerFault: They may or may not be there. The store is closed.
        """
        try:
            self._check_file()
            self._db.execute("BEGIN IMMEDIATE")
            head, outcomes = self.head, list[Head | EpochMoved | ClaimTaken]()
            for batch in batches:
                outcomes.append(outcome := self._written(batch, head))
                head = outcome if isinstance(outcome, Head) else head
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise LedgerFault(f"{self.path}: {error}") from error
        except LedgerFault:
            self.close()
            raise
        self.head = head
        if max(len(self._texts), len(self._personal)) > MAX_CACHED_TEXTS:
            self._texts.clear()
            self._personal.clear()
            self._shared.forget()
        return outcomes

    def _written(self, batch: Batch, head: Head) -> Head | EpochMoved | ClaimTaken:
        if batch.epoch not in (None, self._epoch):
            return EpochMoved()
        try:
            take_claims(self._db, claims_of(batch.entries))  # looks at all of them before it writes the first
        except ClaimTaken as taken:
            return taken
        return self._insert(batch.entries, head)

    def check(self, opening: Opening) -> None:
        """See that this is the ledger that another writer of the same chain opens.

        Raises:
            LedgerFault: It is not, or an older state of it.
        """
        try:
            with create_engine(sqlite_url(self.path, read_only=True), poolclass=NullPool).connect() as connection:
                check_is(connection, self.path, pinned=opening.pinned, last=opening.last)
        except DatabaseError as error:
            raise LedgerFault(f"{self.path}: {error.orig}") from error

    def revocations(self, after: int, alive_at: int, limit: int) -> list[tuple[object, ...]]:
        """Return the revocations that changed after a version, in that order, but those of tokens that are over.

        Raises:
            LedgerFault: The store is closed.
        """
        query = (
            f"SELECT {REVOCATION_COLUMNS} FROM revocation "  # noqa: S608 - our own names
            "WHERE version > ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY version LIMIT ?"
        )
        try:
            return self._db.execute(query, (after, alive_at, limit)).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise LedgerFault(f"{self.path}: {error}") from error

    def claims(self, after: int, alive_at: int, limit: int) -> list[tuple[object, ...]]:
        """Return what was claimed after a version, in that order, but what is over.

        Raises:
            LedgerFault: The store is closed.
        """
        try:
            return claims_after(self._db, after, alive_at, limit)
        except sqlite3.Error as error:
            self.close()
            raise LedgerFault(f"{self.path}: {error}") from error

    def checkpoint_wal(self) -> None:
        """Move what the write-ahead log holds into the file, as far as no reader is in the way.

        Raises:
            LedgerFault: The store is closed.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self.close()
            raise LedgerFault(f"{self.path}: {error}") from error

    @property
    def is_open(self) -> bool:
        """Whether it can be used: no fault has closed it."""
        return self._file >= 0

    def close(self) -> None:
        """Close it; harmless when it is closed."""
        if self._file >= 0:
            self._db.close()
            os.close(self._file)
            self._file = -1

    def _check_file(self) -> None:
        """See that the path still leads to the file that is open: what is written to a deleted one is lost."""
        if self._file < 0:
            raise LedgerFault(f"{self.path}: is closed after a fault")
        ours = os.fstat(self._file)
        try:
            there = os.stat(self.path)  # noqa: PTH116 - with a Path it takes three times as long, at each commit
        except FileNotFoundError:
            raise LedgerFault(f"{self.path}: was deleted or moved; put it back") from None
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise LedgerFault(f"{self.path}: was replaced by another file")
        if not there.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            raise LedgerFault(f"{self.path}: was made read-only")

    def _insert(self, entries: Sequence[Entry], head: Head) -> Head:
        runs: list[tuple[tuple[str, ...], list[list[Value]]]] = []
        for entry in entries:
            if isinstance(entry, DecisionRecord):
                columns, row, head = present_columns(entry, self._writer, head, self._shared.of(entry))
                if not runs or runs[-1][0] != columns:
                    runs.append((columns, []))
                runs[-1][1].append(row)
            else:
                head = self._insert_other(entry, head)
        for columns, rows in runs:
            self._db.executemany(_insertion(columns), rows)
        return head

    def _insert_other(self, entry: Entry, head: Head) -> Head:
        if isinstance(entry, Event):
            head = extend(head, event_body(entry))
            self._db.execute(_INSERT_EVENT, (self._writer, head.position, *entry, head.hash))
        elif isinstance(entry, KeptPolicy):
            self._db.execute("INSERT OR IGNORE INTO policy (digest, files) VALUES (?, ?)", entry)
        elif isinstance(entry, Checkpoint):
            self._db.execute("INSERT INTO checkpoint (statement) VALUES (?)", entry)
        elif isinstance(entry, PrunedTo):
            self._db.execute(
                "UPDATE writer SET pruned_position = ?, pruned_hash = ? WHERE uuid = ? AND pruned_position < ?",
                (entry.position, entry.hash, entry.writer, entry.position),
            )
        elif isinstance(entry, Sweep):
            self._sweep(entry)
        elif isinstance(entry, RevocationMade | RevocationLifted):
            head = self._insert_revocation(entry, head)
        elif isinstance(entry, StepTaken):
            head = extend(head, event_body(event := entry.event()))
            self._db.execute(_INSERT_EVENT, (self._writer, head.position, *event, head.hash))
        return head

    def _insert_revocation(self, entry: RevocationMade | RevocationLifted, head: Head) -> Head:
        version = int(self._db.execute("SELECT COALESCE(MAX(version), 0) + 1 FROM revocation").fetchone()[0])
        if isinstance(entry, RevocationMade):
            decisions = int(self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM decision").fetchone()[0])
            event = entry.event(decisions, version)
            self._db.execute(
                "INSERT INTO revocation (id, version, time, actor, detail, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                (entry.id, version, entry.time, entry.actor, event.detail, entry.expires_at),
            )
        else:
            event = entry.event(version)
            lifted = self._db.execute(
                "UPDATE revocation SET version = ?, lifted_time = ?, lifted_by = ? "
                "WHERE id = ? AND lifted_time IS NULL",
                (version, entry.time, entry.actor, entry.id),
            )
        if lifted.rowcount if isinstance(entry, RevocationLifted) else entry.by_attributes:
            self._epoch = version
            self._db.execute("UPDATE meta SET value = ? WHERE name = ?", (str(version), EPOCH))
        head = extend(head, event_body(event))
        self._db.execute(_INSERT_EVENT, (self._writer, head.position, *event, head.hash))
        return head

    def _sweep(self, sweep: Sweep) -> None:
        for table in ("decision", "event"):
            self._db.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT entry.seq FROM writer CROSS JOIN {table} AS entry "  # noqa: S608
                "ON entry.writer = writer.id AND entry.position <= writer.pruned_position LIMIT ?)",
                (sweep.rows,),
            )
        for query in (SWEEP_CHECKPOINTS, SWEEP_WRITERS):
            self._db.execute(query)
        in_use = {number for _, number in self._personal.values()}
        erased = ((number,) for number in sweep.personal if number not in in_use)
        self._db.executemany("UPDATE personal SET value = NULL WHERE id = ?", erased)

    def _text(self, value: str) -> int:
        if known := self._texts.get(value):
            return known
        found = self._db.execute("SELECT id FROM text WHERE value = ?", (value,)).fetchone()
        new = None if found else self._db.execute("INSERT INTO text (value) VALUES (?)", (value,)).lastrowid
        number = int(found[0] if found else new or 0)
        self._texts[value] = number
        return number

    def _personal_text(self, value: str) -> tuple[bytes, int]:
        if known := self._personal.get(value):
            return known
        salt = os.urandom(SALT_BYTES)
        digest = salted(salt, value)
        insert = "INSERT INTO personal (digest, salt, value) VALUES (?, ?, ?)"
        number = int(self._db.execute(insert, (digest, salt, value)).lastrowid or 0)
        self._personal[value] = digest, number
        return digest, number

    def _start_chain(self, opening: Opening) -> None:
        """Begin this writer's chain with an entry that holds the heads of those before it, which it closes."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            heads = [[uuid, *_head_of(self._db, number, pruned)] for number, uuid, pruned in _open_writers(self._db)]
            cursor = self._db.execute("INSERT INTO writer (uuid) VALUES (?)", (opening.writer,))
            self._writer = int(cursor.lastrowid or 0)
            self._db.execute("UPDATE writer SET closed_by = ? WHERE closed_by IS NULL AND id <> ?",
                             (opening.writer, self._writer))  # fmt: skip
            started = detail(
                {"heads": heads, "program": opening.program, "store": self.store_id, "writer": opening.writer}
            )
            head = self._insert([Event(WRITER_STARTED, opening.time, "", started)], self.head)
            self._epoch = int(self._db.execute("SELECT value FROM meta WHERE name = ?", (EPOCH,)).fetchone()[0])
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerFault(f"{self.path}: {error}") from error
        self.head = head


@lru_cache(maxsize=256)
def _insertion(columns: tuple[str, ...]) -> str:
    return f"INSERT INTO decision ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608


def _open_writers(db: sqlite3.Connection) -> list[tuple[int, str, int]]:
    query = "SELECT id, uuid, pruned_position FROM writer WHERE closed_by IS NULL ORDER BY id"
    return db.execute(query).fetchall()


def _head_of(db: sqlite3.Connection, writer: int, pruned: int) -> tuple[int, str]:
    """Return the position and the hash of a writer's last entry."""
    entries = "SELECT position, hash FROM {} WHERE writer = ? ORDER BY position DESC LIMIT 1"
    found = [db.execute(entries.format(table), (writer,)).fetchone() for table in ("decision", "event")]
    last = max((row for row in found if row), default=(pruned, b""))
    return last[0], last[1].hex()
