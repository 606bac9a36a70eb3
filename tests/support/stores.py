"""A place for a ledger in a test, whichever engine it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine as Database

    from issuer.ledger.engine import Engine
    from issuer.ledger.reading import LedgerReader


class Store:
    """A place for a ledger, and how to get at it."""

    def __init__(
        self, engine: Callable[[], Engine], reader: LedgerReader, migrate: Callable[[], tuple[int, int]], url: str
    ) -> None:
        self.engine = engine
        self.reader = reader
        self.migrate = migrate
        self._url = url

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with self.reader.connected() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def writing(self) -> Database:
        """Return the database, to do to it what an issuer does not."""
        return create_engine(self._url, poolclass=NullPool)
