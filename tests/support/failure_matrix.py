"""What befalls a ledger, as data: tests hold a real issuer to it, and docs/OPERATING.md shows it to operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs/OPERATING.md"
BEGIN: Final = "<!-- failure matrix: made by scripts/generate-failure-matrix from tests/support/failure_matrix.py -->"
END: Final = "<!-- end of the failure matrix -->"


@dataclass(frozen=True, slots=True)
class Failure:
    """One row.

    Attributes:
        name: What the test calls it.
        what: What happens.
        within: Seconds after which every caller has its answer, its token or ``LEDGER_UNAVAILABLE``.
        seen: What the log event ``ledger_fault`` says of it, in part; empty when there is none.
        after: What follows, and what the operator does.
        tokens: Whether callers still get tokens.
    """

    name: str
    what: str
    within: float
    seen: str
    after: str
    tokens: bool = False


_ITSELF = "serves again by itself, with a new chain that holds the head of the old one"
_BACK = "put it back: serves again by itself; another ledger, an empty one or an older state is refused"

FAILURES: Final = (
    Failure(
        name="deleted",
        what="the SQLite file is deleted or moved",
        within=2,
        seen="was deleted or moved",
        after=_BACK,
    ),
    Failure(
        name="replaced",
        what="another ledger stands in its place",
        within=2,
        seen="was replaced by another file",
        after=_BACK,
    ),
    Failure(
        name="read-only",
        what="the file is made read-only",
        within=2,
        seen="was made read-only",
        after="make it writable: serves again by itself",
    ),
    Failure(
        name="locked",
        what="another program holds SQLite's lock on it",
        within=4,
        seen="database is locked",
        after="serves again by itself when the lock is gone",
    ),
    Failure(
        name="full",
        what="its disk is full",
        within=2,
        seen="full",
        after="make room: serves again by itself; nothing that was recorded is lost",
    ),
    Failure(
        name="killed",
        what="the process that owns the file is killed",
        within=4,
        seen="the ledger's process has ended",
        after=_ITSELF,
    ),
    Failure(
        name="stopped",
        what="the disk, or the process that owns the file, hangs",
        within=4,
        seen="has not answered for",
        after="serves again by itself when it answers; after 30 s the store is opened again",
    ),
    Failure(
        name="slow",
        what="the disk is slow, but within `[ledger] max_wait`",
        within=2,
        seen="",
        after="tokens come later; see `issuer_ledger_commit_duration_seconds`",
        tokens=True,
    ),
    Failure(
        name="issuer killed",
        what="the issuer is killed, 50 times under load",
        within=10,
        seen="",
        after=("every token that a caller received is in the ledger, the chains hold; starts again by itself"),
    ),
    Failure(
        name="clock",
        what="the clock jumps back by an hour",
        within=2,
        seen="",
        after="tokens go on; entries stand in their chain in the order in which they were written",
        tokens=True,
    ),
    Failure(
        name="postgres stopped",
        what="PostgreSQL is stopped or restarted",
        within=4,
        seen="",
        after=_ITSELF,
    ),
    Failure(
        name="postgres hung",
        what="PostgreSQL hangs",
        within=4,
        seen="has not answered for",
        after="serves again by itself when it answers; after 30 s the connection is made again",
    ),
    Failure(
        name="postgres cut",
        what="the connection is cut while PostgreSQL commits",
        within=4,
        seen="",
        after="nobody knows whether the batch is there: no token of it leaves; " + _ITSELF,
    ),
    Failure(
        name="postgres empty",
        what="PostgreSQL fails over to an empty database",
        within=4,
        seen="is empty; the ledger in use is",
        after=_BACK,
    ),
    Failure(
        name="postgres clone",
        what="two issuers write with one chain's identity",
        within=4,
        seen="duplicate key",
        after="the second is refused, and goes on with a chain of its own",
    ),
)
"""In the order of the page. ``within`` is with ``max_wait = "2s"``, the default."""


def table() -> str:
    """Return the matrix as Markdown."""
    lines = [
        "| What happens | Callers get | Within | `ledger_fault` says | Afterwards |",
        "|---|---|---|---|---|",
    ]
    for failure in FAILURES:
        answer = "tokens" if failure.tokens else "`UNAVAILABLE`, `LEDGER_UNAVAILABLE`, no token"
        if failure.name == "issuer killed":
            answer = "`UNAVAILABLE` from the transport, no token"
        seen = f'"{failure.seen}"' if failure.seen else "" if failure.tokens else "the cause"
        if failure.name == "issuer killed":
            seen = ""
        lines.append(f"| {failure.what} | {answer} | {failure.within:g} s | {seen} | {failure.after} |")
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """Return the page with the matrix between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
