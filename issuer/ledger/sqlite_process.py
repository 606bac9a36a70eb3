"""The process that owns the SQLite ledger: ``python -m issuer.ledger.sqlite_process FD``, started by the issuer.

In a process of its own, because a thread beside a busy event loop waits for the interpreter's lock at every row. It
reads commands from a socket, one at a time, and ends when that does; a batch that it has read it writes to the end.
"""

from __future__ import annotations

import select
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

import msgpack

from issuer.core.hash_chain import WriterHead
from issuer.ledger.entries import unpack_entries
from issuer.ledger.errors import LedgerFault
from issuer.ledger.sqlite_store import Opening, SqliteStore
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from io import BufferedReader

LENGTH: Final = struct.Struct("!I")
OPEN, COMMIT, REVOCATIONS, CLAIMS = 0, 1, 2, 3
EPOCH_MOVED: Final = "epoch moved"
"""The answer to a commit that was decided from other revocations than hold."""
CLAIM_TAKEN: Final = "claim taken"
"""The answer to a commit that claims what is taken, with the keys after it."""
ROWS_BETWEEN_WAL_CHECKPOINTS: Final = 4_000
IDLE_SECONDS: Final = 1.0


def main() -> None:
    """Serve commands until the socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal tells parent and child alike
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rb") as commands:
        Writer(connection, commands).run()


class Writer:
    """Answers commands in their order."""

    def __init__(self, connection: socket.socket, commands: BufferedReader) -> None:
        self._connection = connection
        self._commands = commands
        self._store: SqliteStore | None = None
        self._unmoved = 0

    def run(self) -> None:
        """Run until there are no more commands, or nobody to answer."""
        try:
            while True:
                if self._unmoved and not select.select([self._connection], [], [], IDLE_SECONDS)[0]:
                    self._move_wal()
                if (command := read_message(self._commands)) is None:
                    return
                self._reply(self._answer(command))
                if self._unmoved >= ROWS_BETWEEN_WAL_CHECKPOINTS:
                    self._move_wal()
        except OSError:  # the issuer is gone
            return
        finally:
            if self._store:
                self._store.close()

    def _answer(self, command: list[Any]) -> list[object]:
        number, kind, argument = command
        try:
            return [number, None, self._done(kind, argument)]
        except EpochMoved:
            return [number, None, EPOCH_MOVED]
        except ClaimTaken as taken:
            return [number, None, [CLAIM_TAKEN, *taken.keys]]
        except LedgerFault as fault:
            self._unmoved = 0
            return [number, str(fault), None]

    def _done(self, kind: int, argument: Any) -> object:  # noqa: ANN401 - as msgpack read it
        if kind == OPEN:
            return self._open(Opening(*argument))
        if kind == REVOCATIONS:
            return self._opened().revocations(*argument)
        if kind == CLAIMS:
            return self._opened().claims(*argument)
        return self._commit(*argument)

    def _open(self, opening: Opening) -> object:
        if self._store:
            self._store.close()
        self._store = SqliteStore(opening._replace(last=WriterHead(*opening.last) if opening.last else None))
        self._unmoved = 1
        return [self._store.store_id, self._store.head]

    def _commit(self, packed: bytes, epoch: int | None) -> object:
        entries = unpack_entries(packed)
        head = self._opened().commit(entries, epoch)
        self._unmoved += len(entries)
        return head

    def _opened(self) -> SqliteStore:
        if self._store is None:
            raise LedgerFault("the ledger is not open")
        return self._store

    def _move_wal(self) -> None:
        """After the answer, and before the next command: nobody waits for it but who comes in between."""
        self._unmoved = 0
        if self._store:
            try:
                self._store.checkpoint_wal()
            except LedgerFault:
                return  # closed; the next commit says so, and the issuer opens it again

    def _reply(self, reply: list[object]) -> None:
        self._connection.sendall(framed(reply))


def framed(message: object) -> bytes:
    """Return a message with its length before it."""
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return LENGTH.pack(len(packed)) + packed


def read_message(stream: BufferedReader) -> list[Any] | None:
    """Return the next message; ``None`` at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    packed = stream.read(length := LENGTH.unpack(head)[0])
    message: list[Any] | None = msgpack.unpackb(packed, raw=False) if len(packed) == length else None
    return message


if __name__ == "__main__":
    main()
