"""The ledger in PostgreSQL, where several issuers share it: each writes its own chain, one transaction a batch."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, QueuePool

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
from issuer.ledger.engine import REVOCATION_COLUMNS, Opened, RevocationRow
from issuer.ledger.errors import LedgerFault
from issuer.ledger.postgres_claims import claims_after, take_claims
from issuer.ledger.postgres_locks import hold_revocations
from issuer.ledger.rows import COLUMNS, MAX_CACHED_TEXTS, SharedRows, decision_row, personal_texts_of, texts_of
from issuer.ledger.schema import EPOCH, SWEEP_CHECKPOINTS, SWEEP_WRITERS, migrate_existing, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from issuer.core.ledger_claims import ClaimRow
    from issuer.core.ledger_entries import Entry
    from issuer.ledger.engine import Beginning

CONNECT_SECONDS: Final = 5
_LOCKS: Final = 0x5350_4946
"""The class of our advisory locks, one for each writer that is alive."""
_SETTINGS: Final[dict[str, str | int]] = {
    "application_name": "spiffe-issuer",
    "connect_timeout": CONNECT_SECONDS,
    # A peer that is gone without a word is noticed by the kernel, not by a caller.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_COPY: Final = f"COPY decision ({', '.join(COLUMNS)}) FROM STDIN"


class PostgresLedger:
    """An :class:`~issuer.ledger.engine.Engine` over a database.

    Args:
        conninfo: A libpq connection string or URL. Its password never reaches a message.

    Raises:
        LedgerFault: The connection string cannot be read.
    """

    shared = True
    newest: Head | None = None

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self.name = postgres_name(conninfo)
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._texts: dict[str, int] = {}
        self._personal: dict[str, tuple[bytes, int]] = {}
        self._shared = SharedRows(self._texts.__getitem__, self._personal.__getitem__)
        self._head = BEFORE_FIRST
        self._writer = 0

    async def open(self, beginning: Beginning) -> Opened:
        """Connect, and begin a chain.

        Raises:
            LedgerFault: It cannot be used now.
        """
        await self.abandon()
        store = await asyncio.to_thread(_prepare, self._conninfo, beginning, self.name)
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                make_conninfo(self._conninfo, **_SETTINGS), autocommit=True
            )
            await self._check_durability(self._connection)
            await self._start_chain(self._connection, beginning, store)
        except (psycopg.Error, OSError) as error:
            await self.abandon()
            raise self._fault(error) from error
        except BaseException:
            await self.abandon()
            raise
        return Opened(store, self._head)

    async def commit(self, entries: Sequence[Entry], epoch: int | None = None) -> Head:
        """Write entries in one transaction. Return the last one's place.

        Raises:
            EpochMoved: The ledger's epoch is another. Nothing was written.
            ClaimTaken: An entry claims what is taken. Likewise.
            LedgerFault: It is not known whether they are there; open it again.
        """
        if self._connection is None:
            raise LedgerFault(f"{self.name}: is not connected")
        try:
            async with self._connection.transaction():
                await hold_revocations(self._connection, entries, epoch)
                await take_claims(self._connection, claims_of(entries))
                head = await self._insert(self._connection, entries)
        except (psycopg.Error, OSError) as error:
            await self.abandon()
            raise self._fault(error) from error
        self._head = head
        if max(len(self._texts), len(self._personal)) > MAX_CACHED_TEXTS:
            self._forget()
        return head

    async def revocations(self, after: int, alive_at: int, limit: int) -> list[RevocationRow]:
        """Return the revocations that changed after a version, in that order, but those of tokens that are over.

        Raises:
            LedgerFault: They cannot be read; open it again.
        """
        if self._connection is None:
            raise LedgerFault(f"{self.name}: is not connected")
        query = (
            f"SELECT {REVOCATION_COLUMNS} FROM revocation "  # noqa: S608 - our own names
            "WHERE version > %s AND (expires_at IS NULL OR expires_at > %s) ORDER BY version LIMIT %s"
        )
        try:
            found = await self._connection.execute(query.encode(), (after, alive_at, limit))
            return [RevocationRow(*row) for row in await found.fetchall()]
        except (psycopg.Error, OSError) as error:
            await self.abandon()
            raise self._fault(error) from error

    async def claims(self, after: int, alive_at: int, limit: int) -> list[ClaimRow]:
        """Return what was claimed after a version, in that order, but what is over.

        Raises:
            LedgerFault: They cannot be read; open it again.
        """
        if self._connection is None:
            raise LedgerFault(f"{self.name}: is not connected")
        try:
            return await claims_after(self._connection, after, alive_at, limit)
        except (psycopg.Error, OSError) as error:
            await self.abandon()
            raise self._fault(error) from error

    async def abandon(self) -> None:
        """Drop the connection, and what is not known to be there."""
        connection, self._connection = self._connection, None
        self._forget()
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """Leave."""
        await self.abandon()

    def _forget(self) -> None:
        self._texts.clear()
        self._personal.clear()
        self._shared.forget()

    def _fault(self, error: Exception) -> LedgerFault:
        lines = str(error).strip().splitlines()
        return LedgerFault(f"{self.name}: {lines[0] if lines else type(error).__name__}")

    async def _check_durability(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        await connection.execute("SET synchronous_commit = on")
        row = await (await connection.execute("SHOW fsync")).fetchone()
        if row != ("on",):
            raise LedgerFault(f"{self.name}: the server runs with fsync off: what it commits is not durable")

    async def _start_chain(
        self, connection: psycopg.AsyncConnection[tuple[Any, ...]], beginning: Beginning, store: str
    ) -> None:
        """Begin this writer's chain with an entry that holds the heads of all others that no later one closed."""
        self._head = BEFORE_FIRST
        async with connection.transaction():
            # One start at a time: each sees the heads that the one before it left.
            await connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCKS,))
            heads = []
            query = "SELECT id, uuid, pruned_position FROM writer WHERE closed_by IS NULL ORDER BY id"
            for number, uuid, pruned in await (await connection.execute(query)).fetchall():
                heads.append([uuid, *await self._head_of(connection, number, pruned)])
                await self._close_if_dead(connection, number, beginning.writer)
            inserted = await connection.execute(
                "INSERT INTO writer (uuid) VALUES (%s) RETURNING id", (beginning.writer,)
            )
            self._writer = (await inserted.fetchone() or (0,))[0]
            await connection.execute("SELECT pg_advisory_lock(%s, %s)", (_LOCKS, self._writer))
            started = {"heads": heads, "program": beginning.program, "store": store, "writer": beginning.writer}
            event = Event(WRITER_STARTED, beginning.time, "", detail(started))
            head = await self._insert(connection, [event])
        self._head = head

    @staticmethod
    async def _head_of(
        connection: psycopg.AsyncConnection[tuple[Any, ...]], writer: int, pruned: int
    ) -> tuple[int, str]:
        found = []
        for table in ("decision", "event"):
            query = f"SELECT position, hash FROM {table} WHERE writer = %s ORDER BY position DESC LIMIT 1"  # noqa: S608
            if row := await (await connection.execute(query, (writer,))).fetchone():
                found.append(row)
        position, digest = max(found, default=(pruned, b""))
        return position, bytes(digest).hex()

    @staticmethod
    async def _close_if_dead(connection: psycopg.AsyncConnection[tuple[Any, ...]], writer: int, closed_by: str) -> None:
        """Close a chain whose writer is gone: its session held a lock, which the server has then released."""
        row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (_LOCKS, writer))).fetchone()
        if row == (True,):
            await connection.execute("UPDATE writer SET closed_by = %s WHERE id = %s", (closed_by, writer))

    async def _insert(self, connection: psycopg.AsyncConnection[tuple[Any, ...]], entries: Sequence[Entry]) -> Head:
        records = [entry for entry in entries if isinstance(entry, DecisionRecord)]
        await self._intern(connection, records)
        head, rows = self._head, []
        for entry in entries:
            if isinstance(entry, DecisionRecord):
                row, head = decision_row(entry, self._writer, head, self._shared.of(entry))
                rows.append(row)
            elif isinstance(entry, Event):
                head = await self._insert_event(connection, entry, head)
            elif isinstance(entry, RevocationMade | RevocationLifted):
                event = await self._insert_revocation(connection, entry)
                head = await self._insert_event(connection, event, head)
            elif isinstance(entry, StepTaken):
                head = await self._insert_event(connection, entry.event(), head)
            else:
                await self._insert_unchained(connection, entry)
        if rows:
            async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                for row in rows:
                    await copy.write_row(row)
        return head

    async def _insert_unchained(
        self, connection: psycopg.AsyncConnection[tuple[Any, ...]], entry: KeptPolicy | Checkpoint | PrunedTo | Sweep
    ) -> None:
        if isinstance(entry, KeptPolicy):
            await connection.execute("INSERT INTO policy (digest, files) VALUES (%s, %s) ON CONFLICT DO NOTHING", entry)
        elif isinstance(entry, Checkpoint):
            await connection.execute("INSERT INTO checkpoint (statement) VALUES (%s)", entry)
        elif isinstance(entry, PrunedTo):
            await connection.execute(
                "UPDATE writer SET pruned_position = %s, pruned_hash = %s WHERE uuid = %s AND pruned_position < %s",
                (entry.position, entry.hash, entry.writer, entry.position),
            )
        else:
            await self._sweep(connection, entry)

    async def _insert_event(
        self, connection: psycopg.AsyncConnection[tuple[Any, ...]], event: Event, head: Head
    ) -> Head:
        head = extend(head, event_body(event))
        await connection.execute(
            "INSERT INTO event (writer, position, kind, time, actor, detail, hash) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (self._writer, head.position, *event, head.hash),
        )
        return head

    @staticmethod
    async def _insert_revocation(
        connection: psycopg.AsyncConnection[tuple[Any, ...]], entry: RevocationMade | RevocationLifted
    ) -> Event:
        """Write a revocation or a lift, under the locks of ``hold_revocations``; return what is chained."""
        query = "SELECT COALESCE((SELECT MAX(version) FROM revocation), 0) + 1, COALESCE(MAX(seq), 0) FROM decision"
        version, decisions = await (await connection.execute(query)).fetchone() or (1, 0)
        if isinstance(entry, RevocationMade):
            event = entry.event(decisions, version)
            await connection.execute(
                "INSERT INTO revocation (id, version, time, actor, detail, expires_at) VALUES (%s, %s, %s, %s, %s, %s)",
                (entry.id, version, entry.time, entry.actor, event.detail, entry.expires_at),
            )
        else:
            event = entry.event(version)
            lifted = await connection.execute(
                "UPDATE revocation SET version = %s, lifted_time = %s, lifted_by = %s "
                "WHERE id = %s AND lifted_time IS NULL",
                (version, entry.time, entry.actor, entry.id),
            )
        if lifted.rowcount if isinstance(entry, RevocationLifted) else entry.by_attributes:
            await connection.execute("UPDATE meta SET value = %s WHERE name = %s", (str(version), EPOCH))
        return event

    async def _sweep(self, connection: psycopg.AsyncConnection[tuple[Any, ...]], sweep: Sweep) -> None:
        for table in ("decision", "event"):
            await connection.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT entry.seq FROM writer JOIN {table} AS entry "  # noqa: S608
                "ON entry.writer = writer.id AND entry.position <= writer.pruned_position LIMIT %s)",
                (sweep.rows,),
            )
        for query in (SWEEP_CHECKPOINTS, SWEEP_WRITERS):
            await connection.execute(query)
        in_use = {number for _, number in self._personal.values()}
        erased = [number for number in sweep.personal if number not in in_use]
        await connection.execute("UPDATE personal SET value = NULL WHERE id = ANY(%s)", (erased,))

    async def _intern(
        self, connection: psycopg.AsyncConnection[tuple[Any, ...]], records: Sequence[DecisionRecord]
    ) -> None:
        """Learn the numbers of texts. In sorted order, so that two writers never wait for each other in a circle."""
        records = self._shared.unknown(records)
        texts = {text for record in records for text in texts_of(record)} - self._texts.keys() - {""}
        if new := sorted(texts):
            insert = "INSERT INTO text (value) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"
            await connection.execute(insert, (new,))
            found = await connection.execute("SELECT value, id FROM text WHERE value = ANY(%s)", (new,))
            self._texts.update(await found.fetchall())
        people = {text for record in records for text in personal_texts_of(record)} - self._personal.keys() - {""}
        for value in sorted(people):
            salt = os.urandom(SALT_BYTES)
            digest = salted(salt, value)
            insert = "INSERT INTO personal (digest, salt, value) VALUES (%s, %s, %s) RETURNING id"
            row = await (await connection.execute(insert, (digest, salt, value))).fetchone()
            self._personal[value] = digest, (row or (0,))[0]


def postgres_name(conninfo: str) -> str:
    """Return where a database is, without its password.

    Raises:
        LedgerFault: The connection string cannot be read. The message does not quote it.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise LedgerFault("the connection string of the ledger cannot be read") from None
    return f"postgresql://{parts.get('host', 'local')}/{parts.get('dbname', '')}"


def postgres_database(conninfo: str, *, kept: int = 0, recycle: int = -1) -> Database:
    """Return SQLAlchemy's view of a database, for migrations and reports.

    Args:
        conninfo: How to connect.
        kept: How many connections are kept open when they are not in use.
        recycle: After how many seconds those are made anew.
    """
    settings = make_conninfo(conninfo, **_SETTINGS)
    url, connect = "postgresql+psycopg://", lambda: psycopg.connect(settings)
    if kept:
        return create_engine(
            url, creator=connect, poolclass=QueuePool, pool_size=kept, pool_recycle=recycle, pool_pre_ping=True
        )
    return create_engine(url, creator=connect, poolclass=NullPool)


def migrate_postgres(conninfo: str) -> tuple[int, int]:
    """Bring a ledger up to this program's version; return the versions before and after.

    Raises:
        LedgerFault: It cannot be.
    """
    name = postgres_name(conninfo)
    with _locked(conninfo, name) as connection:
        return migrate_existing(connection, name)


def _prepare(conninfo: str, beginning: Beginning, name: str) -> str:
    with _locked(conninfo, name) as connection:
        return prepare(connection, name, pinned=beginning.pinned, last=beginning.last, new_store_id=beginning.new_store)


@contextmanager
def _locked(conninfo: str, name: str) -> Iterator[Connection]:
    """Give a transaction that no other start or migration runs beside."""
    try:
        with postgres_database(conninfo).begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCKS,))
            yield connection
    except (DatabaseError, psycopg.Error) as error:
        lines = str(getattr(error, "orig", error)).strip().splitlines()
        raise LedgerFault(f"{name}: {lines[0] if lines else type(error).__name__}") from None
