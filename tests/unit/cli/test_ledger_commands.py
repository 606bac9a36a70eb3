"""``issuer ledger verify`` and ``issuer decisions``, on a real ledger."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support.ledgers import record, sqlite_ledger
from typer.testing import CliRunner

from issuer.cli.main import app
from issuer.core.record import Outcome
from issuer.ledger.schema import VERSION
from issuer.signing.key_file import KeyFileSigner

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    async with sqlite_ledger(path) as ledger:
        await ledger.write(record(token_id="t1", intent='{"ticket":"CHG-1"}'))
        await ledger.write(record(outcome=Outcome.DENIED, reason="SCOPE_NOT_ALLOWED", token_id="", expires_at=None))
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


def test_verify_says_that_a_ledger_holds_and_where_it_does_not(file: Path) -> None:
    assert run("ledger", "verify", "--file", file) == (0, "1 chains with 3 good entries: every one holds\n", "")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE decision SET time = time + 1 WHERE position = 2")
    code, said, _ = run("ledger", "verify", "--file", file)
    assert code == 1
    assert "entry 2 (decision " in said
    document = json.loads(run("ledger", "verify", "--file", file, "--output", "json")[1])
    assert (document["ok"], document["faults"][0]["position"]) == (False, 2)


def test_the_configuration_names_the_ledger(file: Path) -> None:
    config = file.with_name("issuer.toml")
    config.write_text(
        'issuer.url = "https://issuer.example"\npolicy.path = "p"\nkeys.file = "k"\nledger.file = "ledger.sqlite3"\n',
        encoding="utf-8",
    )
    code, _, told = run("ledger", "verify", "--config", config)
    assert code == 0
    assert "signed checkpoints are not looked at: " in told
    assert run("ledger", "verify", "--config", file.with_name("none.toml"))[0] == 2
    assert run("decisions", "list", "--file", file.with_name("none"))[0] == 1
    assert run("decisions", "show", "x", "--file", file.with_name("none"))[0] == 1
    assert run("ledger", "verify", "--file", file.with_name("none"))[0] == 1


def test_checkpoints_are_verified_with_the_keys_of_the_issuer(file: Path) -> None:
    config = file.with_name("issuer.toml")
    signer = KeyFileSigner.open_or_create(file.with_name("k"))
    config.write_text(
        'issuer.url = "https://issuer.example"\npolicy.path = "p"\nkeys.file = "k"\nledger.file = "ledger.sqlite3"\n',
        encoding="utf-8",
    )
    assert "signed checkpoints vouch for 0" in run("ledger", "verify", "--config", config)[1]
    jwks, kept = file.with_name("keys.json"), file.with_name("kept.jws")
    jwks.write_bytes(signer.public_keys().jwks)
    kept.write_text("noise\n", encoding="ascii")
    code, said, _ = run("ledger", "verify", "--file", file, "--jwks", jwks, "--checkpoints", kept)
    assert (code, said.splitlines()[0]) == (1, "a checkpoint: is not a checkpoint")
    assert run("ledger", "verify", "--file", file, "--checkpoints", kept)[0] == 2, "without keys they say nothing"
    assert run("ledger", "verify", "--file", file, "--jwks", kept)[0] == 2
    assert run("ledger", "verify", "--file", file, "--jwks", file.with_name("none"))[0] == 2


def test_old_entries_are_pruned(file: Path) -> None:
    prune = ("ledger", "prune", "--file", file, "--older-than")
    assert run(*prune, "1d", "--dry-run")[1].startswith("0 entries from before")
    assert json.loads(run(*prune, "1d", "--output", "json")[1])["pruned"] == 0
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE event SET time = 0")
        database.execute("UPDATE decision SET time = 0")
    assert run(*prune, "1d", "--dry-run")[1].startswith("4 entries from before")
    assert run(*prune, "1d")[1].endswith("UTC are gone\n")
    assert run("ledger", "verify", "--file", file)[0] == 0
    assert run(*prune, "soon")[0] == 2
    assert run("ledger", "prune", "--file", file.with_name("folder") / "x", "--older-than", "1d", "--dry-run")[0] == 1


async def test_a_ledger_that_an_issuer_writes_to_is_not_touched(file: Path) -> None:
    async with sqlite_ledger(file):
        for command in (("prune", "--older-than", "1d"), ("migrate",)):
            code, _, told = await asyncio.to_thread(run, "ledger", *command, "--file", file)
            assert code == 1
            assert "another process writes to this ledger" in told


def test_tables_are_brought_to_this_version(file: Path) -> None:
    assert run("ledger", "migrate", "--file", file) == (0, f"the tables are of version {VERSION}\n", "")
    assert json.loads(run("ledger", "migrate", "--file", file, "--output", "json")[1]) == {
        "before": VERSION,
        "after": VERSION,
    }
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(VERSION + 1),))
    code, _, told = run("ledger", "migrate", "--file", file)
    assert code == 1
    assert f"of version {VERSION + 1}, and this program knows {VERSION}: run the newer program" in told
    assert "there is no such ledger" in run("ledger", "migrate", "--file", file.with_name("none"))[2]


def test_decisions_are_listed_and_filtered(file: Path) -> None:
    code, said, _ = run("decisions", "list", "--file", file, "--since", "1h")
    assert code == 0
    assert ["denied" in line for line in said.splitlines()] == [False, True, False]
    denied = json.loads(run("decisions", "list", "--file", file, "--outcome", "denied", "--output", "json")[1])
    assert [each["reason"] for each in denied] == ["SCOPE_NOT_ALLOWED"]
    assert run("decisions", "list", "--file", file, "--caller", "spiffe://x/y")[1] == "no decisions\n"
    assert run("decisions", "list", "--file", file, "--outcome", "maybe")[0] == 2
    assert run("decisions", "list", "--file", file, "--since", "soon")[0] == 2


def test_a_decision_is_shown_whole_and_without_the_token(file: Path) -> None:
    code, said, _ = run("decisions", "show", "t1", "--file", file)
    assert code == 0
    assert "token_id            t1\n" in said
    assert 'intent              {"ticket": "CHG-1"}\n' in said
    assert "missing" not in said
    document = json.loads(run("decisions", "show", "t1", "--file", file, "--output", "json")[1])
    assert UUID(document["decision_id"]).version == 7
    assert (document["scopes"], document["bound"], document["lifetime_seconds"]) == (["ledger.read"], False, 300)
    assert run("decisions", "show", "t9", "--file", file) == (1, "", "issuer: no decision t9 is in this ledger\n")
