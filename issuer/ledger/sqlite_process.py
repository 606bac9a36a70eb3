"""The process that owns the SQLite ledger: ``python -m issuer.ledger.sqlite_process OWNER [LISTENER]``.

In a process of its own, because a thread beside a busy event loop waits for the interpreter's lock at every row. Both
arguments are descriptors of sockets. On the first it is given commands by whoever started it, and it ends when that
does; on the second, where there is one, workers of one issuer connect to it and share the ledger's chain. What several
of them want written at the same moment is one transaction; a batch that was read whole is written to its end, whether
its worker lives or not.
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from issuer.core.hash_chain import WriterHead
from issuer.garbage_collection import collect, keep, look_seldom
from issuer.ledger.entries import unpack_entries
from issuer.ledger.errors import LedgerFault
from issuer.ledger.sqlite_connection import Connection, is_of_this_user
from issuer.ledger.sqlite_file import Opening
from issuer.ledger.sqlite_store import Batch, SqliteStore
from issuer.ports import ClaimTaken, EpochMoved

OPEN, COMMIT, REVOCATIONS, CLAIMS = 0, 1, 2, 3
EPOCH_MOVED: Final = "epoch moved"
"""The answer to a commit that was decided from other revocations than hold."""
CLAIM_TAKEN: Final = "claim taken"
"""The answer to a commit that claims what is taken, with the keys after it."""
ROWS_BETWEEN_WAL_CHECKPOINTS: Final = 4_000
IDLE_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 0.002
"""Longer than a worker takes from the answer to its next batch, for which it gathers callers for a millisecond."""
FEW: Final = 2
"""For a batch of so many entries, or fewer, nobody is kept waiting for others."""


def main() -> None:
    """Serve commands until the owner's socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal tells parent and child alike
        signal.signal(number, signal.SIG_IGN)
    look_seldom()
    keep()
    owner, *listener = (socket.socket(fileno=int(each)) for each in sys.argv[1:3])
    Writer(Connection(owner), listener[0] if listener else None).run()


class Writer:
    """Answers commands: of one connection in their order, of several as they come.

    Args:
        owner: Whose end is the end of all.
        listener: Where others connect, which share the chain; ``None`` where the owner alone writes.
    """

    def __init__(self, owner: Connection, listener: socket.socket | None) -> None:
        self._owner = owner
        self._shared = listener is not None
        self._listener = listener
        self._store: SqliteStore | None = None
        self._unmoved = 0
        self._last: set[Connection] = set()
        self._ready = selectors.DefaultSelector()
        self._ready.register(owner.socket, selectors.EVENT_READ, owner)
        if listener is not None:
            listener.setblocking(False)  # noqa: FBT003 - the socket module's own
            self._ready.register(listener, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Run until the owner's connection ends."""
        try:
            while not self._owner.has_ended:
                events = self._ready.select(IDLE_SECONDS if self._unmoved else None)
                self._answer(self._joined(self._commands(events)))
                if not events or self._unmoved >= ROWS_BETWEEN_WAL_CHECKPOINTS:
                    self._move_wal()
        finally:
            if self._store:
                self._store.close()

    def _commands(self, events: list[tuple[selectors.SelectorKey, int]]) -> list[tuple[Connection, list[Any]]]:
        commands: list[tuple[Connection, list[Any]]] = []
        for key, mask in events:
            if key.data is None:
                self._accept()
                continue
            connection: Connection = key.data
            if mask & selectors.EVENT_WRITE:
                connection.flush()
            if mask & selectors.EVENT_READ:
                commands += [(connection, command) for command in connection.read()]
            self._follow(connection)
        return commands

    def _joined(self, commands: list[tuple[Connection, list[Any]]]) -> list[tuple[Connection, list[Any]]]:
        """Let those join who were in the last transaction, while callers come in numbers.

        Workers that are answered together ask together again, so one commit serves them all; apart they would take
        turns, each with half of the callers. Where one caller is alone, nobody is waited for.
        """
        commits = [(connection, command) for connection, command in commands if command[1] == COMMIT]
        if not self._shared or not commits:
            return commands
        here = {connection for connection, _ in commits}
        if all(command[2][2] > FEW for _, command in commits):
            until = time.monotonic() + JOIN_SECONDS
            while (self._last - here) and (left := until - time.monotonic()) > 0:
                more = self._commands(self._ready.select(left))
                here |= {connection for connection, _ in more}
                commands = commands + more
        self._last = {connection for connection, command in commands if command[1] == COMMIT}
        return commands

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - for the type checker: it is what was ready
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # whoever it was has given up
            return
        if is_of_this_user(accepted):
            self._ready.register(accepted, selectors.EVENT_READ, Connection(accepted))
        else:
            accepted.close()

    def _follow(self, connection: Connection) -> None:
        """Wait for what the connection can do next; let go of one that has ended."""
        if connection.has_ended:
            if connection.socket.fileno() >= 0:
                self._ready.unregister(connection.socket)
                connection.socket.close()
        elif connection.is_behind != connection.is_waited_for:
            connection.is_waited_for = connection.is_behind
            # Who does not read its answers is asked for no more commands, so that it cannot fill the memory with them.
            wanted = selectors.EVENT_WRITE if connection.is_behind else selectors.EVENT_READ
            self._ready.modify(connection.socket, wanted, connection)

    def _answer(self, commands: list[tuple[Connection, list[Any]]]) -> None:
        """Answer: all that is to be written in one transaction, after the rest, of which no answer depends on it."""
        commits = []
        for connection, command in commands:
            if command[1] == COMMIT:
                commits.append((connection, command))
            else:
                self._reply(connection, self._outcome(connection, command))
        if commits:
            self._commit(commits)

    def _outcome(self, connection: Connection, command: list[Any]) -> list[object]:
        number, kind, argument = command
        try:
            if kind == OPEN:
                return [number, None, self._open(connection, Opening(*argument))]
            store = self._store_of(connection)
            read = store.revocations if kind == REVOCATIONS else store.claims
            return [number, None, read(*argument)]
        except LedgerFault as fault:
            return [number, str(fault), None]

    def _open(self, connection: Connection, opening: Opening) -> object:
        opening = opening._replace(last=WriterHead(*opening.last) if opening.last else None)
        if self._store is not None and self._store.is_open and self._shared:
            self._store.check(opening)
        else:
            if self._store:
                self._store.close()
            self._store = SqliteStore(opening)
            self._unmoved = 1
        connection.store = self._store
        return [self._store.store_id, self._store.head, self._store.writer]

    def _commit(self, commits: list[tuple[Connection, list[Any]]]) -> None:
        """Write what several want written.

        A fault is everybody's: it closes the store, and nobody knows what of it is there.
        """
        batches, mine = [], []
        for connection, (number, _, (packed, epoch, _)) in commits:
            try:
                self._store_of(connection)
            except LedgerFault as fault:
                self._reply(connection, [number, str(fault), None])
            else:
                batches.append(Batch(unpack_entries(packed), epoch))
                mine.append((connection, number))
        try:
            outcomes = self._store.commit_together(batches) if self._store and batches else []
        except LedgerFault as fault:
            self._unmoved = 0
            for connection, number in mine:
                self._reply(connection, [number, str(fault), None])
            return
        self._unmoved += sum(len(batch.entries) for batch in batches)
        for (connection, number), outcome in zip(mine, outcomes, strict=True):
            self._reply(connection, [number, None, _told(outcome)])

    def _store_of(self, connection: Connection) -> SqliteStore:
        """Return the store, if it is the one that this connection opened: what it knows of the chain is of that one."""
        store = self._store
        if store is None or connection.store is not store or not store.is_open:
            raise LedgerFault("the ledger is not open")
        return store

    def _move_wal(self) -> None:
        """After the answers, and before the next commands: nobody waits for it but who comes in between."""
        self._unmoved = 0
        collect()
        if self._store:
            try:
                self._store.checkpoint_wal()
            except LedgerFault:
                return  # closed; the next commit says so, and the issuer opens it again

    def _reply(self, connection: Connection, reply: list[object]) -> None:
        """Send an answer and, where others write to the chain as well, how far it has come."""
        store = connection.store
        is_known = self._shared and store is self._store and store is not None
        connection.send([*reply, store.head if store is not None and is_known else None])
        self._follow(connection)


def _told(outcome: object) -> object:
    match outcome:
        case EpochMoved():
            return EPOCH_MOVED
        case ClaimTaken():
            return [CLAIM_TAKEN, *outcome.keys]
        case _:
            return outcome


if __name__ == "__main__":
    main()
