"""The tables of the ledger, the same in SQLite and PostgreSQL, and the steps from one version of them to the next.

Texts that repeat are kept once, in ``text``, and a decision refers to them by number: a row with its indexes takes
about half the room. A decision's columns are named as the fields of :class:`~issuer.core.record.DecisionRecord`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)

from issuer.core.record import PERSONAL, DecisionRecord
from issuer.ledger.errors import LedgerFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from issuer.core.hash_chain import WriterHead

PLAIN: Final = frozenset(
    [
        *("decision_id", "time", "ttl_asked", "flags", "outcome", "lifetime", "token_id", "expires_at", "token_sha256"),
        *("approval", "origin", "status"),
    ]
)
"""The fields of a decision that stand in its row; the others are numbers of texts."""

INTERNED: Final = tuple(name for name in DecisionRecord._fields if name not in PLAIN and name not in PERSONAL)

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers its rows by an INTEGER PRIMARY KEY alone
_BYTES: Final = frozenset({"decision_id", "token_sha256"})
_TEXTS: Final = frozenset({"token_id", "approval", "origin"})
_REQUIRED: Final = frozenset({"decision_id", "time", "flags", "outcome"})

metadata = MetaData()

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

text = Table(
    "text",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("value", Text, nullable=False, unique=True),
)

personal = Table(
    "personal",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("salt", LargeBinary, nullable=False),
    Column("value", Text),  # NULL once it is erased
)

writer = Table(
    "writer",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("closed_by", Text),  # the later writer whose first entry holds this one's last
    Column("pruned_position", BigInteger, nullable=False, server_default="0"),
    Column("pruned_hash", LargeBinary),
)


def _decision_column(name: str) -> Column[object]:
    if name in PERSONAL:
        return Column(name, _NUMBER, ForeignKey("personal.id"), nullable=True)
    if name in INTERNED:
        return Column(name, _NUMBER, ForeignKey("text.id"), nullable=True)
    kind = LargeBinary() if name in _BYTES else Text() if name in _TEXTS else BigInteger()
    return Column(name, kind, nullable=name not in _REQUIRED)


decision = Table(
    "decision",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("writer", _NUMBER, ForeignKey("writer.id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    *map(_decision_column, DecisionRecord._fields),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("writer", "position"),
)
Index("decision_by_id", decision.c.decision_id, unique=True)
Index("decision_by_caller", decision.c.caller, decision.c.seq)
Index("decision_by_audience", decision.c.audience, decision.c.seq)
Index(
    "decision_by_token",
    decision.c.token_id,
    sqlite_where=decision.c.token_id.is_not(None),
    postgresql_where=decision.c.token_id.is_not(None),
)
Index(
    "decision_refused",
    decision.c.decision_id,
    sqlite_where=decision.c.outcome != 1,
    postgresql_where=decision.c.outcome != 1,
)

_BY_EXPIRY: Final = Index(
    "decision_by_expiry",
    decision.c.expires_at,
    sqlite_where=decision.c.token_id.is_not(None),
    postgresql_where=decision.c.token_id.is_not(None),
)

_BY_ORIGIN: Final = Index(
    "decision_by_origin",
    decision.c.expires_at,
    sqlite_where=decision.c.origin.is_not(None),
    postgresql_where=decision.c.origin.is_not(None),
)
"""Finds the living tokens that rest on something: few among many."""

event = Table(
    "event",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("writer", _NUMBER, ForeignKey("writer.id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("writer", "position"),
)

policy = Table(
    "policy", metadata, Column("digest", Text, primary_key=True), Column("files", LargeBinary, nullable=False)
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("statement", Text, nullable=False),
)


revocation = Table(
    "revocation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, unique=True),  # which change of this table the row's last one was
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("detail", Text, nullable=False),  # as it is chained
    Column("expires_at", BigInteger),  # of a single token: afterwards the row matters to nobody
    Column("lifted_time", BigInteger),
    Column("lifted_by", Text),
)

claim = Table(
    "claim",
    metadata,
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, unique=True),  # which claim of this ledger it was
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

CLAIMS: Final = "claims"
"""The name in ``meta`` of the version of the last claim; rows of the table go when they are over."""
EPOCH: Final = "epoch"
"""The name in ``meta`` of the version of the last change that decisions depend on."""


def _first(connection: Connection) -> None:
    metadata.create_all(connection, [meta, text, personal, writer, decision, event, policy, checkpoint])


def _revocations(connection: Connection) -> None:
    revocation.create(connection)
    _BY_EXPIRY.create(connection, checkfirst=True)
    connection.execute(insert(meta), {"name": EPOCH, "value": "0"})


def _approvals(connection: Connection) -> None:
    claim.create(connection)
    if not any(column["name"] == "approval" for column in inspect(connection).get_columns(decision.name)):
        connection.exec_driver_sql("ALTER TABLE decision ADD COLUMN approval TEXT")  # of a ledger from before
    connection.execute(insert(meta), {"name": CLAIMS, "value": "0"})


def _origins(connection: Connection) -> None:
    there = {column["name"] for column in inspect(connection).get_columns(decision.name)}
    for name, kind in (("origin", "TEXT"), ("status", "BIGINT")):
        if name not in there:  # of a ledger from before
            connection.exec_driver_sql(f"ALTER TABLE decision ADD COLUMN {name} {kind}")
    _BY_ORIGIN.create(connection, checkfirst=True)


SWEEP_CHECKPOINTS: Final = "DELETE FROM checkpoint WHERE seq <= (SELECT max(seq) - 10000 FROM checkpoint)"
"""Older ones vouch for nothing that newer ones do not."""
SWEEP_WRITERS: Final = (
    "DELETE FROM writer WHERE closed_by IS NOT NULL AND pruned_position > 0 "
    "AND NOT EXISTS (SELECT 1 FROM decision WHERE decision.writer = writer.id) "
    "AND NOT EXISTS (SELECT 1 FROM event WHERE event.writer = writer.id) "
    "AND NOT EXISTS (SELECT 1 FROM writer AS later WHERE later.pruned_position = 0 AND later.id > writer.id "
    "AND later.id <= COALESCE((SELECT closer.id FROM writer AS closer WHERE closer.uuid = writer.closed_by), 0))"
)
"""Chains of which nothing is left, nor the first entries of the later chains that named them, up to the one that closed
them."""

MIGRATIONS: Final[tuple[Callable[[Connection], None], ...]] = (_first, _revocations, _approvals, _origins)
"""Step n leads from version n to version n + 1. None is ever changed after a release: a new one is added."""
VERSION: Final = len(MIGRATIONS)


def version_of(connection: Connection) -> int:
    """Return the version of the tables; 0 when there are none."""
    if not inspect(connection).has_table(meta.name):
        return 0
    return int(connection.scalar(select(meta.c.value).where(meta.c.name == "schema")) or 0)


def store_id_of(connection: Connection) -> str:
    """Return what this ledger is told apart from every other by."""
    return str(connection.scalar(select(meta.c.value).where(meta.c.name == "store")))


def migrate(connection: Connection, new_store_id: str) -> int:
    """Bring the tables to this program's version, in the transaction of ``connection``; return the steps taken.

    Raises:
        LedgerFault: They are of a newer version.
    """
    found = version_of(connection)
    if found > VERSION:
        raise LedgerFault(
            f"the ledger's tables are of version {found}, and this program knows {VERSION}: run the newer program"
        )
    for step in MIGRATIONS[found:]:
        step(connection)
    if found == 0:
        connection.execute(
            insert(meta), [{"name": "schema", "value": str(VERSION)}, {"name": "store", "value": new_store_id}]
        )
    elif found < VERSION:
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(VERSION)))
    return VERSION - found


def migrate_existing(connection: Connection, name: str) -> tuple[int, int]:
    """Bring the tables of a ledger that is there to this program's version; return the versions before and after.

    Raises:
        LedgerFault: There is no ledger, or it is of a newer version.
    """
    if (found := version_of(connection)) == 0:
        raise LedgerFault(f"{name}: there is no ledger here")
    migrate(connection, "")
    return found, VERSION


def prepare(
    connection: Connection, name: str, *, pinned: str | None, last: WriterHead | None, new_store_id: str
) -> str:
    """Bring the tables to this program's version, and return the ledger's id.

    Args:
        connection: With a transaction.
        name: Of the ledger, for messages.
        pinned: The id that it must have; ``None`` takes whichever it is, or makes a new one.
        last: An entry that must be there; ``None`` when none is known.
        new_store_id: The id of a new one.

    Raises:
        LedgerFault: It is another ledger than the pinned one, or none, or an older state of it, or of a newer version.
    """
    if pinned is not None and version_of(connection) == 0:
        raise LedgerFault(f"{name}: is empty; the ledger in use is {pinned}: put it back")
    migrate(connection, new_store_id)
    return check_is(connection, name, pinned=pinned, last=last)


def check_is(connection: Connection, name: str, *, pinned: str | None, last: WriterHead | None) -> str:
    """See that a ledger is the one in use, and no older state of it; return its id. Arguments as for :func:`prepare`.

    Raises:
        LedgerFault: It is not.
    """
    store = store_id_of(connection)
    if pinned is not None and store != pinned:
        raise LedgerFault(f"{name}: is another ledger ({store}) than the one in use ({pinned}): put that back")
    if last is not None and not _holds(connection, last):
        raise LedgerFault(
            f"{name}: is an older state of the ledger: entry {last.position} of chain {last.writer} was durable, "
            "and is not there: put the newer one back"
        )
    return store


def _holds(connection: Connection, head: WriterHead) -> bool:
    """Tell whether an entry is there, or was pruned."""
    row = connection.execute(select(writer.c.id, writer.c.pruned_position).where(writer.c.uuid == head.writer)).first()
    if row is None or row.pruned_position >= head.position:
        return row is not None
    entries = (
        connection.scalar(select(table.c.hash).where(table.c.writer == row.id, table.c.position == head.position))
        for table in (decision, event)
    )
    return any(found is not None and bytes(found) == head.hash for found in entries)
