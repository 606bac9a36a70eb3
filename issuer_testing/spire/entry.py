"""Registration entries, in the form that ``spire-server entry create -data FILE`` takes.

The same files serve an SRE (``spire-dev/entries``) and the fixtures, so what is tried here is what is registered there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FIELDS = frozenset(
    {"spiffe_id", "parent_id", "selectors", "dns_names", "hint", "x509_svid_ttl", "federates_with", "admin"}
)


class EntryFileError(ValueError):
    """An entry file cannot be used. The message names the file, the entry and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who gets which SVID.

    Attributes:
        spiffe_id: The identity, for example ``spiffe://prod.example/ns/payments/sa/settler``.
        parent_id: The node (agent or node alias) that may hand it out; ``""``: filled in by the environment.
        selectors: What attestation must find, all of them, as ``type:value``; ``()``: filled in by the environment.
        dns_names: DNS SANs. The issuer's one is what its callers recognise it by.
        hint: Tells a workload with several identities what this one is for.
        x509_svid_ttl: Seconds; 0 means the server's default.
        federates_with: SPIFFE IDs of the trust domains whose bundles the workload gets.
        admin: Whether this identity may use SPIRE's own management API. Never for the issuer.
    """

    spiffe_id: str
    parent_id: str = ""
    selectors: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    hint: str = ""
    x509_svid_ttl: int = 0
    federates_with: tuple[str, ...] = ()
    admin: bool = False

    def on(self, parent_id: str, *selectors: str) -> Entry:
        """Return this entry for another node and other selectors: the file's are those of a production host."""
        return replace(self, parent_id=parent_id, selectors=selectors)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as one element of SPIRE's ``entries`` array."""
        document: dict[str, Any] = {
            "spiffe_id": self.spiffe_id,
            "parent_id": self.parent_id,
            "selectors": [_selector_json(selector) for selector in self.selectors],
            "x509_svid_ttl": self.x509_svid_ttl,
            "dns_names": list(self.dns_names),
            "federates_with": list(self.federates_with),
            "hint": self.hint,
            "admin": self.admin,
        }
        return {name: value for name, value in document.items() if value}


def entries_json(entries: Iterable[Entry]) -> str:
    """Return the text of an entry file."""
    return json.dumps({"entries": [entry.as_json() for entry in entries]}, indent=2)


def read_entries(file: Path) -> tuple[Entry, ...]:
    """Read an entry file.

    Raises:
        EntryFileError: The file is missing, is no JSON, or has a field that is unknown or of the wrong type.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return tuple(_entry(element) for element in document["entries"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EntryFileError(
            f"{file}: not a file that `spire-server entry create -data` takes: {type(error).__name__}: {error}"
        ) from error


def _entry(element: dict[str, Any]) -> Entry:
    unknown = element.keys() - _FIELDS
    if unknown:
        raise ValueError(f"unknown field {min(unknown)!r}; known are {', '.join(sorted(_FIELDS))}")
    return Entry(
        spiffe_id=_text(element["spiffe_id"]),
        parent_id=_text(element.get("parent_id", "")),
        selectors=tuple(f"{_text(s['type'])}:{_text(s['value'])}" for s in element.get("selectors", ())),
        dns_names=tuple(_text(name) for name in element.get("dns_names", ())),
        hint=_text(element.get("hint", "")),
        x509_svid_ttl=int(element.get("x509_svid_ttl", 0)),
        federates_with=tuple(_text(name) for name in element.get("federates_with", ())),
        admin=element.get("admin", False) is True,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be a text")
    return value


def _selector_json(selector: str) -> dict[str, str]:
    kind, _, value = selector.partition(":")
    return {"type": kind, "value": value}
