"""The file of an SQLite ledger: found or made, locked for one writer, brought to this program's version. Blocking."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from issuer.ledger.errors import LedgerFault
from issuer.ledger.schema import migrate_existing, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.core.hash_chain import WriterHead

MAX_WAL_BYTES: Final = 64 * 1024 * 1024


class Opening(NamedTuple):
    """How to open a ledger.

    Attributes:
        path: The file.
        wait_ms: How long to wait for another connection's lock.
        pinned: The id that the ledger must have; ``None`` takes whichever it is, or makes a new one.
        last: An entry that must be there; ``None`` when none is known.
        new_store: The id of a new one.
        writer: A fresh id for this writer's chain.
        time: Microseconds since 1970 UTC.
        program: What writes, for the first entry.
    """

    path: str
    wait_ms: int
    pinned: str | None
    last: WriterHead | None
    new_store: str
    writer: str
    time: int
    program: str


def migrate_sqlite(path: Path) -> tuple[int, int]:
    """Bring a ledger that no issuer writes to up to this program's version; return the versions before and after.

    Raises:
        LedgerFault: It cannot be, or an issuer writes to it.
    """
    descriptor = open_file(str(path), create=False)
    try:
        with create_engine(sqlite_url(path), poolclass=NullPool).begin() as connection:
            return migrate_existing(connection, str(path))
    except DatabaseError as error:
        raise LedgerFault(f"{path}: {error.orig}") from error
    finally:
        os.close(descriptor)


def open_file(path: str, *, create: bool) -> int:
    """Open the file and hold its lock for writers; kept open, for closing any descriptor drops SQLite's own locks."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        raise LedgerFault(f"{path}: there is no such ledger; put it back") from None
    except OSError as error:
        raise LedgerFault(f"{path}: cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LedgerFault(
            f"{path}: another process writes to this ledger; several issuers share one in PostgreSQL"
        ) from None
    return descriptor


def sqlite_url(path: Path | str, *, read_only: bool = False) -> str:
    """Return SQLAlchemy's URL of a ledger's file."""
    return f"sqlite:///file:{path}?mode={'ro' if read_only else 'rw'}&uri=true"


def prepare_tables(opening: Opening) -> str:
    """Bring the tables to this program's version; return the ledger's id."""
    engine = create_engine(
        sqlite_url(opening.path), poolclass=NullPool, connect_args={"timeout": opening.wait_ms / 1000}
    )
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            return prepare(
                connection, opening.path, pinned=opening.pinned, last=opening.last, new_store_id=opening.new_store
            )
    except DatabaseError as error:
        raise LedgerFault(f"{opening.path}: {error.orig}") from error


def connect(opening: Opening) -> sqlite3.Connection:
    """Open it for writing, each commit on disk when it returns."""
    connection = sqlite3.connect(
        f"file:{opening.path}?mode=rw", uri=True, isolation_level=None, timeout=opening.wait_ms / 1000
    )
    # The log is moved into the file between batches, not inside one: a commit then costs one fsync and no more.
    for pragma in ("synchronous = FULL", "wal_autocheckpoint = 0", f"journal_size_limit = {MAX_WAL_BYTES}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection
