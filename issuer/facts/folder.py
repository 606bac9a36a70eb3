"""Facts from a folder of files, which whoever feeds them writes and replaces: YAML or JSON, whole file or not at all.

::

    version: 1
    facts:
      - {type: posture, subject: "spiffe://prod.example/ns/payments/sa/settler", values: {status: healthy}}

A fact that does not say when it was observed was observed when its file was last changed. A file that cannot be used is
reported and keeps what it told before, until that ends; a file that is gone takes its facts with it. Who may write into
the folder may tell every fact: its permissions are the feeder's role.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Final

from issuer.core.errors import AdminRefused
from issuer.core.fact_reading import FactRefused, fact_from_document
from issuer.core.yaml_reader import MAX_FILE_BYTES, YamlFault, read_entries
from issuer.core.yaml_values import mapping_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from issuer.core.facts import Fact, FactType
    from issuer.core.yaml_reader import Entry
    from issuer.facts.store import FactStore

MAX_FILES: Final = 1_000
_SUFFIXES: Final = (".yaml", ".json")
_FACT: Final = "a fact, with 'type', 'subject' and 'values',"


class FactFileRefused(Exception):
    """A file of facts cannot be used; the message names file, line and column."""


class FolderFeeder:
    """Feeds a :class:`~issuer.facts.store.FactStore` from a folder.

    Args:
        folder: Where the files are; hidden ones are not read. It may be absent, and then tells nothing.
        store: What is fed.
    """

    def __init__(self, folder: Path, store: FactStore) -> None:
        self.folder = folder
        self._store = store
        self._fed: set[str] = set()
        self._reading = Lock()

    def read(self, fact_types: Mapping[str, FactType], now: datetime) -> list[str]:
        """Read every file again; call it when one changed and when the policy did. Blocks.

        Returns:
            What is wrong, a line for each file that cannot be used.
        """
        with self._reading:  # a change of the files and one of the policy may come at once
            return self._read(fact_types, now)

    def _read(self, fact_types: Mapping[str, FactType], now: datetime) -> list[str]:
        faults = []
        try:
            files = self._files()
        except OSError as error:
            return [f"{self.folder}: cannot be read: {error.strerror or error}"]
        for gone in self._fed - {_feeder(file) for file in files}:
            self._store.replace(gone, [])
        for file in files[:MAX_FILES]:
            try:
                self._store.replace(_feeder(file), read_fact_file(file, fact_types, now))
            except (FactFileRefused, AdminRefused) as error:
                faults.append(str(error))
            except OSError as error:
                faults.append(f"{file.name}: cannot be read: {error.strerror or error}")
        if len(files) > MAX_FILES:
            faults.append(f"{self.folder}: more than {MAX_FILES} files: the rest is not read")
        self._fed = {_feeder(file) for file in files}
        return faults

    def _files(self) -> list[Path]:
        try:
            files = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        return [file for file in files if not file.name.startswith(".") and file.suffix in _SUFFIXES]


def _feeder(file: Path) -> str:
    return f"file:{file.name}"


def read_fact_file(file: Path, fact_types: Mapping[str, FactType], now: datetime) -> list[Fact]:
    """Return the facts that a file tells.

    Raises:
        FactFileRefused: With the first fault, at its place.
        OSError: The file cannot be read.
    """
    content, changed = _read(file)
    faults: list[str] = []

    def report(line: int, column: int, message: str) -> None:
        faults.append(f"{file.name}:{line}:{column}: {message}")

    facts = []
    try:
        for entry in read_entries(content, report):
            if entry.key.text == "facts" and entry.is_item:
                document = {"observed": min(changed, now), **mapping_of(entry.node, _FACT)}
                facts.append(_fact(entry, document, file, fact_types, now))
            elif entry.key.text not in {"version", "facts"}:
                report(
                    entry.key.line,
                    entry.key.column,
                    f"unknown key {entry.key.text!r}: a file has 'version' and 'facts'",
                )
    except YamlFault as fault:
        report(fault.line, fault.column, fault.message)
    if faults:
        raise FactFileRefused(faults[0])
    return facts


def _read(file: Path) -> tuple[bytes, datetime]:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        return opened.read(MAX_FILE_BYTES + 1), datetime.fromtimestamp(status.st_mtime, UTC)


def _fact(
    entry: Entry, document: Mapping[str, object], file: Path, fact_types: Mapping[str, FactType], now: datetime
) -> Fact:
    try:
        return fact_from_document(document, fact_types, source=_feeder(file), now=now)
    except FactRefused as refused:
        raise YamlFault(entry.node.line, entry.node.column, str(refused)) from None
