"""What is asked of a running SPIRE server, through its own command line: the commands that an SRE would type."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from issuer_testing.spire.entry import Entry, entries_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALREADY_EXISTS = 6


class SpireRefused(RuntimeError):
    """SPIRE did not do what it was asked. The message holds its answer."""


@dataclass(frozen=True, slots=True)
class RegisteredEntry:
    """An entry as the server knows it."""

    entry_id: str
    entry: Entry


class ServerCommands:
    """A SPIRE server's registration and bundle commands."""

    def __init__(self, run: Callable[..., str], exchange: Path) -> None:
        """Prepare.

        Args:
            run: Runs ``spire-server`` with the given arguments against the server; returns its standard output, raises
                :class:`SpireRefused`.
            exchange: A folder that this process and the server's commands see under the same name.
        """
        self._run, self._exchange = run, exchange

    def create_entry(self, entry: Entry) -> str:
        """Register an entry and return its id.

        Raises:
            SpireRefused: The server refuses it; a similar entry (same parent, ID and selectors) that is there too.
        """
        with self._file(entries_json([entry])) as data:
            return _entry_id(self._run("entry", "create", "-data", data, "-output", "json"), entry)

    def update_entry(self, entry_id: str, entry: Entry) -> None:
        """Replace an entry's fields.

        Raises:
            SpireRefused: The server refuses it, or has no such entry.
        """
        document = json.dumps({"entries": [{**entry.as_json(), "entry_id": entry_id}]})
        with self._file(document) as data:
            _entry_id(self._run("entry", "update", "-data", data, "-output", "json"), entry)

    def delete_entry(self, entry_id: str) -> None:
        """Remove an entry.

        Raises:
            SpireRefused: There is no such entry.
        """
        self._run("entry", "delete", "-entryID", entry_id)

    def entries(self) -> tuple[RegisteredEntry, ...]:
        """Return every entry, those that SPIRE made for its own agents included."""
        return entries_from_json(self._run("entry", "show", "-output", "json"))

    def join_token(self, spiffe_id: str) -> str:
        """Return a join token for an agent that will be known as ``spiffe_id`` too."""
        answer = json.loads(self._run("token", "generate", "-spiffeID", spiffe_id, "-output", "json"))
        return str(answer["value"])

    def bundle_pem(self) -> str:
        """Return the server's own bundle as PEM, which an agent starts with."""
        return self._run("bundle", "show", "-format", "pem")

    def bundle(self) -> str:
        """Return the server's own bundle in SPIFFE's form, for another trust domain to federate with."""
        return self._run("bundle", "show", "-format", "spiffe")

    def set_federated_bundle(self, trust_domain: str, bundle: str) -> None:
        """Set the bundle of another trust domain, in SPIFFE's form."""
        with self._file(bundle) as path:
            self._run("bundle", "set", "-id", f"spiffe://{trust_domain}", "-path", path, "-format", "spiffe")

    def delete_federated_bundle(self, trust_domain: str) -> None:
        """Forget another trust domain; entries that federated with it no longer do."""
        self._run("bundle", "delete", "-id", f"spiffe://{trust_domain}", "-mode", "dissociate")

    @contextmanager
    def _file(self, text: str) -> Iterator[str]:
        """Keep a text in a file of its own for one command: two threads may register at the same time."""
        with NamedTemporaryFile("w", encoding="utf-8", suffix=".json", dir=self._exchange) as file:
            file.write(text)
            file.flush()
            yield file.name


def entries_from_json(text: str) -> tuple[RegisteredEntry, ...]:
    """Read what ``spire-server entry show -output json`` prints."""
    return tuple(
        RegisteredEntry(
            entry_id=given["id"],
            entry=Entry(
                spiffe_id=_spiffe_id(given["spiffe_id"]),
                parent_id=_spiffe_id(given["parent_id"]),
                selectors=tuple(f"{selector['type']}:{selector['value']}" for selector in given["selectors"]),
                dns_names=tuple(given["dns_names"]),
                hint=given["hint"],
                x509_svid_ttl=given["x509_svid_ttl"],
                federates_with=tuple(given["federates_with"]),
                admin=given["admin"],
            ),
        )
        for given in json.loads(text)["entries"]
    )


def _spiffe_id(given: dict[str, Any]) -> str:
    return f"spiffe://{given['trust_domain']}{given['path']}"


def _entry_id(answer: str, entry: Entry) -> str:
    """Return the id of the entry that was made or changed. In its JSON form the command's exit code is always 0."""
    (result,) = json.loads(answer)["results"]
    status = result["status"]
    if status["code"] == ALREADY_EXISTS:
        raise SpireRefused(
            f"{entry.spiffe_id} is already registered for {entry.parent_id} and {', '.join(entry.selectors)}: "
            "delete that entry, or update it"
        )
    if status["code"]:
        raise SpireRefused(f"SPIRE refuses the entry for {entry.spiffe_id}: {status['message']}")
    return str(result["entry"]["id"])
