"""Two issuers on one PostgreSQL database whose signing keys an operator changes, for tests."""

from __future__ import annotations

import copy
import json
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.request import urlopen

import grpc
import psycopg

from agent_client.verification import TokenRejected, TokenVerifier
from agent_client.verification.key_sources import FetchedKeys
from issuer_testing.deadline import wait_until
from issuer_testing.issuer_process import IssuerProcess
from support.deployment import DEADLINE, LEDGER
from support.postgres import PostgresServer
from support.rotating import Rotating, kid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ISS = "http://127.0.0.1:9"
"""The `iss` of both; nobody listens there."""
KNOWN_WITHIN = 20.0
"""Seconds until one issuer follows the other, on a busy machine; what is promised is ten."""


class FetchedBefore:
    """The key set as it was fetched, a :class:`~agent_client.verification.key_sources.KeySource`."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._jwks = jwks

    def fetch(self) -> FetchedKeys:
        """Return it."""
        return FetchedKeys(self._jwks, None)


class Replicas:
    """Two issuers, the database that they share, and the folder of keys that they share."""

    def __init__(self, folder: Path, database: str) -> None:
        self.database = database
        self.key_file = folder / "keys" / "signing-key.pem"
        self._folder = folder
        self.one = Rotating(
            folder,
            ledger={"file": None, "postgresql": database},
            issuer={"url": ISS},
            keys={"file": str(self.key_file)},
        )
        self.other = self.another("other")

    @property
    def both(self) -> tuple[Rotating, Rotating]:
        """The two."""
        return self.one, self.other

    def another(self, name: str, **options: Mapping[str, object]) -> Rotating:
        """Return an issuer on the same database, not started; by default with the same keys."""
        made = copy.copy(self.one)
        merged = {**(self.one.settings.options or {}), **options}
        made.settings = replace(self.one.settings, folder=self._folder / name, options=merged)
        made.issuer = IssuerProcess(made.settings)
        return made

    def events(self) -> list[tuple[str, str]]:
        """Return what the ledger tells of keys: kind and ``kid``, in its order."""
        query = "SELECT kind, detail FROM event WHERE kind LIKE 'key\\_%' AND kind <> 'key_shared' ORDER BY seq"
        with closing(psycopg.connect(self.database)) as connection:
            return [(kind, json.loads(detail)["kid"]) for kind, detail in connection.execute(query.encode())]

    def agree_on(self, published: list[str]) -> None:
        """Wait until both publish exactly these, the first of which signs."""
        for each in self.both:
            wait_until(
                lambda: each.published(each.issuer.url) == published,  # noqa: B023 - asked in this round
                what=f"an issuer publishes {published}",
                seconds=KNOWN_WITHIN,
            )


class Watching:
    """Tokens of each issuer, verified by the key set that each gave out just before. One that is down is left out.

    Attributes:
        rejected: Why a token was.
        verified: How many were not, by ``kid``.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._enough = Event()
        self._thread = Thread(target=self._watch)
        self.rejected: list[str] = []
        self.verified: dict[str, int] = {}

    def sees(self, key_id: str) -> None:
        """Wait until a token that this key signed was verified."""
        seen = self.verified.get(key_id, 0)
        wait_until(
            lambda: self.rejected or self.verified.get(key_id, 0) > seen + 4,
            what=f"tokens by {key_id} are verified",
            seconds=KNOWN_WITHIN,
        )

    def _watch(self) -> None:
        while not self._enough.is_set():
            sets = [each for each in map(key_set_of, self._replicas.both) if each is not None]
            for issuer in self._replicas.both:
                with suppress(grpc.RpcError):
                    token = issuer.token()
                    for keys in sets:
                        self._verify(token, keys)

    def _verify(self, token: str, keys: Mapping[str, Any]) -> None:
        try:
            verify(token, keys)
        except TokenRejected as error:
            self.rejected.append(f"{error}: {kid_of(token)} by {[each['kid'] for each in keys['keys']]}")
        else:
            self.verified[kid_of(token)] = self.verified.get(kid_of(token), 0) + 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()


def key_set_of(issuer: Rotating) -> Mapping[str, Any] | None:
    """Return the key set that an issuer publishes; ``None`` while it is down."""
    address = f"{issuer.issuer.url}/.well-known/jwks.json"
    with suppress(OSError, HTTPException), urlopen(address, timeout=DEADLINE) as answer:  # noqa: S310 - of a test
        found: Mapping[str, Any] = json.load(answer)
        return found
    return None


def verify(token: str, keys: Mapping[str, Any]) -> None:
    """Verify a token by a key set.

    Raises:
        TokenRejected: It is not good by that.
    """
    with TokenVerifier(ISS, LEDGER, insecure_dev=True, keys=FetchedBefore(keys)) as verifier:
        verifier.verify(token)


@contextmanager
def database_of(folder: Path) -> Iterator[str]:
    """Have a database that nobody has used."""
    with PostgresServer(folder) as server:
        yield server.new_database()
