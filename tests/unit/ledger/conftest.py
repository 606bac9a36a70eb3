"""Every store of the ledger, for tests that hold each of them to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.postgres import PostgresServer
from support.stores import Store

from issuer.ledger.postgres_ledger import PostgresLedger, migrate_postgres
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_file import migrate_sqlite, sqlite_url
from issuer.ledger.sqlite_ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite3"
        reader = LedgerReader.sqlite(path)
        return Store(lambda: SqliteLedger(path), reader, lambda: migrate_sqlite(path), sqlite_url(path))
    server: PostgresServer = request.getfixturevalue("server")
    database = server.new_database()
    name = database.rpartition("=")[2]
    url = f"postgresql+psycopg://postgres@/{name}?host={server.folder}"
    return Store(
        lambda: PostgresLedger(database), LedgerReader.postgres(database), lambda: migrate_postgres(database), url
    )
