"""What the suite measures, and how much of it: pure, so that a test can look at it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.transports import TRANSPORTS

WHOLE = ("grpcio", "native")
OTHER_LEDGERS = ("PostgreSQL", "no ledger")
SPIRE, OIDC, GO_NULL = "SPIRE NewJWTSVID", "oidc-provider", "null RPC, Go"


@dataclass(frozen=True, order=True)
class Level:
    """How many callers ask, over how many connections."""

    callers: int
    connections: int

    def __str__(self) -> str:
        """Return it for people."""
        one_each = self.callers == self.connections
        return str(self.callers) if one_each else f"{self.callers} on {self.connections}"


ALL = (Level(1, 1), Level(16, 16), Level(64, 64), Level(256, 256), Level(64, 1))
SOME = (Level(1, 1), Level(64, 64))
MANY = (Level(16, 16), Level(64, 64))
BATCHED = (Level(1, 1), Level(16, 16))
FEW = (Level(1, 1), Level(16, 16))
HANDSHAKES = ("fresh", "resumed", "call")
"""Without a session, with one, and without one but with a null RPC."""


@dataclass(frozen=True)
class Subject:
    """A server under load.

    Attributes:
        name: As in the table.
        levels: The loads that it is put under.
        work: ``null``, ``token``, ``batch``, or a reference's own.
        transport: Of our servers.
        ledger: Of our issuers.
        workers: Of our issuers: how many processes answer.
        handshakes: Whether its handshakes are counted too.
    """

    name: str
    levels: tuple[Level, ...]
    work: str = "reference"
    transport: str | None = None
    ledger: str | None = None
    workers: int = 1
    handshakes: bool = False


def plan(*, quick: bool = False) -> list[Subject]:
    """Return what is measured; ``quick`` leaves out most."""
    return _quick() if quick else _whole()


def _quick() -> list[Subject]:
    return [
        Subject(GO_NULL, FEW),
        Subject(SPIRE, FEW),
        *(null(transport, FEW) for transport in TRANSPORTS),
        *(token(transport, "SQLite", FEW) for transport in TRANSPORTS),
    ]


def _whole() -> list[Subject]:
    """The default transport and the fastest are looked at whole; of h2corn what tells it from them."""
    return [
        Subject(GO_NULL, ALL, handshakes=True),
        Subject(SPIRE, ALL, handshakes=True),
        Subject(OIDC, ALL, handshakes=True),
        *(null(transport, ALL, handshakes=transport in WHOLE) for transport in TRANSPORTS),
        *(token(transport, "SQLite", ALL) for transport in TRANSPORTS),
        *(token("native", ledger, SOME) for ledger in OTHER_LEDGERS),
        token("grpcio", "PostgreSQL", SOME),
        Subject("token, native, SQLite, 2 workers", MANY, "token", "native", "SQLite", workers=2),
        *(Subject(f"batch of 64, {transport}, SQLite", BATCHED, "batch", transport, "SQLite") for transport in WHOLE),
    ]


def null(transport: str, levels: tuple[Level, ...], *, handshakes: bool = False) -> Subject:
    """Return the null RPC on one of our transports."""
    return Subject(f"null RPC, {transport}", levels, "null", transport, handshakes=handshakes)


def token(transport: str, ledger: str, levels: tuple[Level, ...]) -> Subject:
    """Return IssueToken on one of our transports, with one kind of ledger."""
    return Subject(f"token, {transport}, {ledger}", levels, "token", transport, ledger)
