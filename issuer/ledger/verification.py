"""Goes along every chain of a ledger, and holds them against what later chains, prunings and signed checkpoints say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from sqlalchemy import select

from issuer.core.base64url import base64url_decoded
from issuer.core.chain_check import ChainEntry, ChainFault, ChainWalk
from issuer.core.checkpoint import CheckpointInvalid, verified_checkpoint
from issuer.core.hash_chain import BEFORE_FIRST, Head, WriterHead
from issuer.core.ledger_entries import ENTRIES_PRUNED, WRITER_STARTED, Event
from issuer.core.record_encoding import decision_body, event_body
from issuer.ledger.claim_check import claim_faults
from issuer.ledger.reading import ROWS_AT_ONCE, Texts, decisions_query
from issuer.ledger.revocation_check import revocation_faults
from issuer.ledger.schema import checkpoint, decision, event, store_id_of, writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from sqlalchemy import Connection

    from issuer.core.checkpoint import LedgerCheckpoint
    from issuer.ledger.reading import LedgerReader


@dataclass(frozen=True, slots=True)
class Verification:
    """What going along every chain found.

    Attributes:
        chains: How many there are.
        entries: How many entries hold.
        signed: How many of those a checkpoint vouches for; ``None`` when no keys were given to check checkpoints with.
        faults: The first fault of each chain that has one, and checkpoints that do not count.
    """

    chains: int
    entries: int
    signed: int | None
    faults: tuple[ChainFault, ...]


def verify_ledger(
    reader: LedgerReader, keys: Mapping[str, EllipticCurvePublicKey] | None = None, statements: Iterable[str] = ()
) -> Verification:
    """Go along every chain; an issuer may write meanwhile.

    Args:
        reader: The ledger.
        keys: The issuer's public keys by ``kid``, from elsewhere than the ledger; ``None`` leaves checkpoints unread.
        statements: Checkpoints that were kept elsewhere, beside those in the ledger.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        writers = {row.uuid: row.id for row in connection.execute(select(writer).order_by(writer.c.id))}
        claims, pruned = _Claims(), _pruned(connection)
        _claim_started(connection, claims)
        signed: dict[str, int] | None = None
        if keys is not None:
            found = _checkpoints(connection, keys, statements, claims)
            # A chain that is gone whole may have been pruned, if it ended before what was pruned last.
            signed = {one.head.writer: one.head.position for one in found
                      if one.head.writer in writers or one.time >= pruned.before}  # fmt: skip
            claims.add_signed(one for one in found if one.head.writer in signed)
        walked = [_walk(connection, number, uuid, claims, pruned) for uuid, number in writers.items()]
        claims.faults.extend(revocation_faults(connection, pruned.before))
        claims.faults.extend(claim_faults(connection, pruned.before))
    faults = [fault for chain in walked if (fault := chain.fault)]
    faults += [claims.of_removed(uuid) for uuid in claims.heads.keys() - writers.keys()]
    return Verification(
        chains=len(walked),
        entries=sum(chain.last - chain.start for chain in walked),
        signed=None if signed is None else sum(chain.covered(signed) for chain in walked),
        faults=(*faults, *claims.faults),
    )


@dataclass(slots=True)
class _Claims:
    """Heads that something says a chain had: by its writer, the hash of a position, and what says it."""

    heads: dict[str, dict[int, tuple[bytes, str]]] = field(default_factory=dict)
    faults: list[ChainFault] = field(default_factory=list)

    def add(self, head: WriterHead, named_by: str) -> None:
        self.heads.setdefault(head.writer, {})[head.position] = head.hash, named_by

    def add_signed(self, checkpoints: Iterable[LedgerCheckpoint]) -> None:
        for one in checkpoints:
            self.add(one.head, f"a checkpoint signed at {one.time}")

    def after(self, writer_id: str, pruned: int) -> dict[int, tuple[bytes, str]]:
        return {position: claim for position, claim in self.heads.get(writer_id, {}).items() if position > pruned}

    def of_removed(self, writer_id: str) -> ChainFault:
        position, (_, named_by) = max(self.heads[writer_id].items())
        return ChainFault(writer_id, 1, "", f"the whole chain was removed, and {named_by} names its entry {position}")


class _Pruned(NamedTuple):
    """What chains say was pruned: the heads up to which, and what was made before this moment may be gone whole."""

    heads: frozenset[WriterHead]
    before: int


class _Walked(NamedTuple):
    writer: str
    start: int
    last: int
    fault: ChainFault | None

    def covered(self, signed: Mapping[str, int]) -> int:
        """Return how many of its good entries a checkpoint vouches for."""
        return max(min(signed.get(self.writer, 0), self.last) - self.start, 0)


def _claim_started(connection: Connection, claims: _Claims) -> None:
    """Take the heads that later chains hold of earlier ones."""
    for (detail,) in connection.execute(select(event.c.detail).where(event.c.kind == WRITER_STARTED)):
        started = json.loads(detail)
        for uuid, position, digest in started["heads"]:
            if position:
                claims.add(WriterHead(uuid, position, bytes.fromhex(digest)), f"the start of chain {started['writer']}")


def _pruned(connection: Connection) -> _Pruned:
    heads: set[WriterHead] = set()
    before = 0
    for (detail,) in connection.execute(select(event.c.detail).where(event.c.kind == ENTRIES_PRUNED)):
        told = json.loads(detail)
        heads.update(WriterHead(uuid, position, bytes.fromhex(digest)) for uuid, position, digest in told["heads"])
        before = max(before, told["before"])
    return _Pruned(frozenset(heads), before)


def _checkpoints(
    connection: Connection,
    keys: Mapping[str, EllipticCurvePublicKey],
    statements: Iterable[str],
    claims: _Claims,
) -> list[LedgerCheckpoint]:
    """Return the last checkpoint of each writer; those that do not count become faults of ``claims``."""
    store, good = store_id_of(connection), []
    inside = (row.statement for row in connection.execute(select(checkpoint.c.statement)))
    for statement in _last_of_each_writer(inside, statements):
        try:
            found = verified_checkpoint(statement, keys)
        except CheckpointInvalid as error:
            claims.faults.append(ChainFault("", 0, "a checkpoint", str(error)))
            continue
        if found.store == store:
            good.append(found)
        else:
            claims.faults.append(ChainFault(found.head.writer, 0, "a checkpoint", f"is of the ledger {found.store}"))
    return good


def _last_of_each_writer(*sources: Iterable[str]) -> Iterator[str]:
    """Yield the statement of each writer that reaches furthest: it vouches for all before it.

    They are sorted before they are verified. One that was put in to hide another then fails, which is told.
    """
    last: dict[object, tuple[int, str]] = {}
    for statement in (statement for source in sources for statement in source):
        writer_id, position = _claimed(statement)
        if writer_id not in last or position > last[writer_id][0]:
            last[writer_id] = position, statement
    return (statement for _, statement in last.values())


def _claimed(statement: str) -> tuple[object, int]:
    """Return what an unverified statement says; of one that cannot be read, something that no other says."""
    try:
        payload = json.loads(base64url_decoded(statement.split(".")[1]))
        return str(payload["writer"]), int(payload["position"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return statement, 0


def _walk(connection: Connection, number: int, uuid: str, claims: _Claims, pruned: _Pruned) -> _Walked:
    query = select(writer.c.pruned_position, writer.c.pruned_hash).where(writer.c.id == number)
    position, digest = connection.execute(query).one()
    start = Head(position, bytes(digest)) if position else BEFORE_FIRST
    if position and WriterHead(uuid, *start) not in pruned.heads:
        problem = f"the entries up to {position} were removed, and no entry {ENTRIES_PRUNED} says so"
        return _Walked(uuid, position, position, ChainFault(uuid, position, "", problem))
    walk = ChainWalk(uuid, start, claims.after(uuid, position))
    head, fault = walk.check(_chain(connection, number, position))
    if fault and connection.execute(query).one() != (position, digest):  # pruned further while we went along it
        return _walk(connection, number, uuid, claims, _pruned(connection))
    return _Walked(uuid, position, head.position, fault)


def _chain(connection: Connection, number: int, after: int) -> Iterator[ChainEntry]:
    """Yield the entries of a chain by position, a part of them in memory at a time."""
    return merge(_chained_decisions(connection, number, after), _chained_events(connection, number, after))


def _chained_decisions(connection: Connection, number: int, after: int) -> Iterator[ChainEntry]:
    texts, last = Texts(), after
    while True:
        query = decisions_query().where(decision.c.writer == number, decision.c.position > last)
        rows = connection.execute(query.order_by(decision.c.position).limit(ROWS_AT_ONCE)).all()
        texts.fetch(connection, rows)
        for row in rows:
            record = texts.record(row)
            body = decision_body(record, texts.digests(row))
            yield ChainEntry(row.position, bytes(row.hash), body, f"decision {UUID(bytes=record.decision_id)}")
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1].position


def _chained_events(connection: Connection, number: int, after: int) -> Iterator[ChainEntry]:
    query = select(event).where(event.c.writer == number, event.c.position > after).order_by(event.c.position)
    for row in connection.execute(query).all():
        body = event_body(Event(row.kind, row.time, row.actor, row.detail))
        yield ChainEntry(row.position, bytes(row.hash), body, f"event {row.kind}")
