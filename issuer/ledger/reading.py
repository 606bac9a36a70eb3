"""Reads a ledger, whichever engine it is in. Never writes."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from uuid import UUID

from sqlalchemy import bindparam, create_engine, func, or_, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, QueuePool

from issuer.core.origin import basis_from_texts
from issuer.core.record import PERSONAL, DecisionRecord
from issuer.core.recorded_tokens import RecordedToken
from issuer.core.revocation import Issued, Lift
from issuer.core.revocation_text import revocation_from_text
from issuer.core.spiffe_id import SpiffeId
from issuer.ledger.decision_filter import decision_conditions
from issuer.ledger.errors import LedgerFault
from issuer.ledger.postgres_ledger import postgres_database, postgres_name
from issuer.ledger.schema import INTERNED, VERSION, decision, personal, policy, revocation, text, version_of
from issuer.ledger.sqlite_file import sqlite_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection, Engine, FromClause

    from issuer.core.revocation import Revocation
    from issuer.ports import DecisionsWanted

ROWS_AT_ONCE: Final = 2_000
MAX_LISTED: Final = 1_000
KEPT: Final = 2
"""Connections that are kept for looking up single tokens."""
KEPT_SECONDS: Final = 60
"""Until they are made anew: a ledger that was restored is then another file."""
_FIELDS: Final = tuple(decision.c[name] for name in DecisionRecord._fields)


class _RecordedRow(NamedTuple):
    """What the query below finds, in its order: columns of a decision, and texts that others of them are numbers of."""

    seq: int
    token_id: str
    time: int
    expires_at: int | None
    approval: str | None
    origin: str | None
    status: int | None
    caller: str
    audience: str
    application: str | None
    rules: str | None
    policy: str | None


_COLUMNS, _TOLD = _RecordedRow._fields[:7], _RecordedRow._fields[7:]
_TEXT_OF: Final = {name: text.alias(name) for name in _TOLD}
_RECORDED: Final = select(
    *(decision.c[name] for name in _COLUMNS),
    *(_TEXT_OF[name].c.value.label(name) for name in _TOLD),
).select_from(
    reduce(
        lambda joined, name: joined.outerjoin(_TEXT_OF[name], _TEXT_OF[name].c.id == decision.c[name]),
        _TOLD,
        cast("FromClause", decision),
    )
)
_RECORDED_TOKEN: Final = _RECORDED.where(decision.c.token_id == bindparam("token_id"))
_REVOKED_AFTER: Final = select(revocation).where(revocation.c.version > bindparam("version"))


class StoredDecision(NamedTuple):
    """A decision with its place.

    Attributes:
        record: The decision.
        seq: Its number in this ledger: later ones have a higher one.
        writer: Its writer's number.
        position: In that writer's chain.
        erased: Its intent was there and was erased.
    """

    record: DecisionRecord
    seq: int
    writer: int
    position: int
    erased: bool


class LedgerReader:
    """Reads one ledger.

    Args:
        database: Where it is.
        name: For messages.
        kept: The same, with connections that are kept for a while; ``None`` for one that keeps none either.
    """

    def __init__(self, database: Engine, name: str, kept: Engine | None = None) -> None:
        self._database = database
        self._kept = kept or database
        self._name = name
        self._lookup = _RECORDED_TOKEN.compile(self._kept)

    @classmethod
    def sqlite(cls, path: Path) -> LedgerReader:
        """Read an SQLite file; an issuer may write to it meanwhile."""
        url = sqlite_url(path.absolute(), read_only=True)
        kept = create_engine(url, poolclass=QueuePool, pool_size=KEPT, pool_recycle=KEPT_SECONDS)
        return cls(create_engine(url, poolclass=NullPool), str(path), kept)

    @classmethod
    def postgres(cls, conninfo: str) -> LedgerReader:
        """Read a PostgreSQL database."""
        kept = postgres_database(conninfo, kept=KEPT, recycle=KEPT_SECONDS)
        return cls(postgres_database(conninfo), postgres_name(conninfo), kept)

    def newest(self, wanted: DecisionsWanted, limit: int, before: int | None = None) -> list[StoredDecision]:
        """Return the newest decisions that are wanted, the newest first.

        Args:
            wanted: Which.
            limit: How many, at most :data:`MAX_LISTED`.
            before: Only those with a lower ``seq``: the last one of the page before.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        with self.connected() as connection:
            conditions = decision_conditions(connection, wanted)
            if conditions is None:
                return []
            if before is not None:
                conditions.append(decision.c.seq < before)
            query = decisions_query().where(*conditions).order_by(decision.c.seq.desc()).limit(min(limit, MAX_LISTED))
            return resolved(connection, connection.execute(query).all(), Texts())

    def after(self, wanted: DecisionsWanted, seq: int, limit: int) -> list[StoredDecision]:
        """Return decisions that are wanted and have a higher ``seq``, the oldest first, at most :data:`MAX_LISTED`.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        with self.connected() as connection:
            conditions = decision_conditions(connection, wanted)
            if conditions is None:
                return []
            query = decisions_query().where(*conditions, decision.c.seq > seq).order_by(decision.c.seq)
            return resolved(connection, connection.execute(query.limit(min(limit, MAX_LISTED))).all(), Texts())

    def last_seq(self) -> int:
        """Return the ``seq`` of the newest decision; 0 when there is none.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        with self.connected() as connection:
            return int(connection.scalar(select(func.max(decision.c.seq))) or 0)

    def find(self, name: str) -> list[StoredDecision]:
        """Return the decisions with this id, or that led to the token with this ``jti``.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        same = [decision.c.token_id == name]
        with suppress(ValueError):
            same.append(decision.c.decision_id == UUID(name).bytes)
        with self.connected() as connection:
            return resolved(connection, connection.execute(decisions_query().where(or_(*same))).all(), Texts())

    def recorded_token(self, token_id: str) -> RecordedToken | None:
        """Return what is recorded of a token; ``None`` when it is not in this ledger.

        On a connection that is kept, and past SQLAlchemy's execution, which takes two thirds of the time: resource
        servers ask this for every new token of theirs.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        named = (token_id,) if self._lookup.positional else {"token_id": token_id}
        try:
            with closing(self._kept.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(str(self._lookup), named)
                found = cursor.fetchone()
        except self._kept.dialect.loaded_dbapi.Error as error:
            raise LedgerFault(f"{self._name}: {error}") from error
        row = None if found is None else _RecordedRow(*found)
        return None if row is None or row.expires_at is None else _recorded_token(row)

    def kept_policy(self, digest: str) -> bytes | None:
        """Return the files of a policy, packed; ``None`` when they are not in this ledger.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        with self.connected() as connection:
            found = connection.scalar(select(policy.c.files).where(policy.c.digest == digest))
            return None if found is None else bytes(found)

    def revocation(self, revocation_id: str) -> Revocation | None:
        """Return a revocation, whether it still matters or not; ``None`` when it is not in this ledger.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        with self.connected() as connection:
            row = connection.execute(select(revocation).where(revocation.c.id == revocation_id)).first()
        return None if row is None else revocation_from_row(row)

    def revoked_after(self, version: int) -> frozenset[str]:
        """Return the single tokens that were revoked after a version, of those that this ledger holds.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        try:
            with self._kept.connect() as connection:
                rows = connection.execute(_REVOKED_AFTER, {"version": version}).all()
        except DatabaseError as error:
            raise LedgerFault(f"{self._name}: {error.orig}") from error
        found = (revocation_from_row(row).selector.token for row in rows)
        return frozenset(token for token in found if token is not None)

    def revocations(self, limit: int, before: str | None = None) -> list[Revocation]:
        """Return revocations, the newest first; their ids sort by time.

        Args:
            limit: How many, at most :data:`MAX_LISTED`.
            before: Only those with a lower id: the last one of the page before.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        query = select(revocation).order_by(revocation.c.id.desc()).limit(min(limit, MAX_LISTED))
        if before is not None:
            query = query.where(revocation.c.id < before)
        with self.connected() as connection:
            return [revocation_from_row(row) for row in connection.execute(query)]

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Give a connection that reads, to this program's version of the tables.

        Raises:
            LedgerFault: The ledger cannot be read, or is of another version.
        """
        try:
            with self._database.connect() as connection:
                self._check_version(connection)
                yield connection
        except DatabaseError as error:
            raise LedgerFault(f"{self._name}: {error.orig}") from error

    def _check_version(self, connection: Connection) -> None:
        found = version_of(connection)
        if found == 0:
            raise LedgerFault(f"{self._name}: there is no ledger here")
        if found != VERSION:
            raise LedgerFault(f"{self._name}: its tables are of version {found}, and this program reads {VERSION}")


def recorded_tokens(connection: Connection, conditions: Iterable[ColumnElement[bool]]) -> Iterator[RecordedToken]:
    """Yield what is recorded of the tokens whose decisions fulfil conditions, in no order."""
    for row in connection.execute(_RECORDED.where(*conditions).execution_options(yield_per=ROWS_AT_ONCE)):
        yield _recorded_token(row)


def _recorded_token(row: Any) -> RecordedToken:  # noqa: ANN401 - a row of the query above
    basis, ancestors = basis_from_texts(row.origin or "", row.approval or "")
    issued = Issued(
        caller=SpiffeId.parse(row.caller),
        audience=row.audience,
        application=row.application or "",
        rules=tuple((row.rules or "").split()),
        policy=row.policy or "",
        key="",
        time=row.time,
        token_id=row.token_id,
        basis=basis,
        ancestors=ancestors,
    )
    return RecordedToken(row.seq, row.expires_at, issued, row.status)


def revocation_from_row(row: Any) -> Revocation:  # noqa: ANN401 - a row of the table, however it was read
    """Return the revocation that a row holds."""
    lifted = None if row.lifted_time is None else Lift(row.lifted_time, row.lifted_by or "")
    return revocation_from_text(row.detail, time=row.time, actor=row.actor, version=row.version, lifted=lifted)


class Texts:
    """The texts of numbers, fetched once each."""

    def __init__(self) -> None:
        self._values: dict[int, str] = {}
        self._personal: dict[int, tuple[bytes, str | None]] = {}

    def fetch(self, connection: Connection, rows: Sequence[Any]) -> None:
        """Learn every text that rows refer to."""
        numbers = {getattr(row, name) for row in rows for name in INTERNED} - self._values.keys() - {None}
        for some in _in_parts(sorted(numbers)):
            found = connection.execute(select(text.c.id, text.c.value).where(text.c.id.in_(some)))
            self._values.update((number, value) for number, value in found)
        people = {getattr(row, name) for row in rows for name in PERSONAL} - self._personal.keys() - {None}
        for some in _in_parts(sorted(people)):
            query = select(personal.c.id, personal.c.digest, personal.c.value).where(personal.c.id.in_(some))
            for number, digest, value in connection.execute(query):
                self._personal[number] = bytes(digest), value

    def record(self, row: Any) -> DecisionRecord:  # noqa: ANN401 - a row of the table
        """Return a decision with its texts; a personal one is empty where it was erased."""
        values = {name: getattr(row, name) for name in DecisionRecord._fields}
        values |= {name: self._values[values[name]] if values[name] else "" for name in INTERNED}
        values |= {name: self._personal[values[name]][1] or "" if values[name] else "" for name in PERSONAL}
        values["decision_id"] = bytes(row.decision_id)
        values["token_id"] = row.token_id or ""
        values["approval"] = row.approval or ""
        values["origin"] = row.origin or ""
        values["token_sha256"] = bytes(row.token_sha256 or b"")
        return DecisionRecord(**values)

    def is_erased(self, number: int | None) -> bool:
        """Return whether a personal text was there and was erased."""
        return number is not None and self._personal[number][1] is None

    def digests(self, row: Any) -> list[bytes]:  # noqa: ANN401 - a row of the table
        """Return what stands in the chain for the personal fields."""
        return [self._personal[number][0] if (number := getattr(row, name)) else b"" for name in PERSONAL]


def decisions_query() -> Any:  # noqa: ANN401 - a query
    """Return the query for all decisions, with their texts still as numbers (:class:`Texts`)."""
    return select(decision.c.seq, decision.c.writer, decision.c.position, decision.c.hash, *_FIELDS)


def resolved(connection: Connection, rows: Sequence[Any], texts: Texts) -> list[StoredDecision]:
    """Return rows of :func:`decisions_query` with their texts."""
    texts.fetch(connection, rows)
    return [
        StoredDecision(texts.record(row), row.seq, row.writer, row.position, texts.is_erased(row.intent))
        for row in rows
    ]


def _in_parts(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[start : start + ROWS_AT_ONCE] for start in range(0, len(numbers), ROWS_AT_ONCE))
