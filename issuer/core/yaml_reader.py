"""YAML with the place of every value, safe against hostile files.

Read from libyaml's events: no objects are constructed, a scalar is text until the schema says what it must be (so
``no`` is never a boolean), and one entry of a list is in memory at a time. Refused: anchors, aliases, tags, several
documents, nesting beyond :data:`MAX_DEPTH`, bytes that are not UTF-8, control characters, files beyond
:data:`MAX_FILE_BYTES`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from issuer.core.policy_faults import quoted

try:
    from yaml._yaml import CParser
except ImportError as error:
    raise ImportError(
        "PyYAML was built without libyaml, which policy files need: install its wheel, "
        "or build it where libyaml's headers are (Debian: libyaml-dev)"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yaml._yaml import Mark as _Mark
    from yaml.error import Mark
    from yaml.events import Event

MAX_DEPTH: Final = 16
"""The language needs six levels. libyaml's time grows with the square of the depth (200,000 levels: two minutes)."""
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""100,000 grants are about 25 MB."""

# YAML 1.1 section 4.1.1, without the line breaks that only YAML knows: editors would count lines differently.
_NOT_ALLOWED = re.compile(
    "\r(?!\n)|[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_NO_VALUE = frozenset({"", "~", "null", "Null", "NULL"})


class YamlFault(Exception):
    """A file cannot be read any further. ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message


@dataclass(slots=True)
class Scalar:
    """A single value as it was written; ``plain`` when without quotes, ``style`` YAML's mark of it (``|``, ``"``)."""

    text: str
    line: int
    column: int
    plain: bool
    style: str = ""

    @property
    def has_no_value(self) -> bool:
        """Whether nothing, or YAML's null, was written."""
        return self.plain and self.text in _NO_VALUE


@dataclass(slots=True)
class SequenceNode:
    """A list."""

    items: list[Node]
    line: int
    column: int


@dataclass(slots=True)
class MappingNode:
    """Keys, each once, with their values."""

    entries: dict[str, tuple[Scalar, Node]]
    line: int
    column: int


Node: TypeAlias = Scalar | SequenceNode | MappingNode


class Entry(NamedTuple):
    """A key of the top level with its value, or with one item of the list that is its value (``is_item``)."""

    key: Scalar
    node: Node
    is_item: bool


def read_entries(content: bytes, report: Callable[[int, int, str], None]) -> Iterator[Entry]:
    """Yield the top level of a YAML file, whose one document must be a mapping.

    ``report`` is told line, column and message of faults after which reading goes on (a key given twice).

    Raises:
        YamlFault: At the first fault after which it cannot go on.
    """
    _check_text(content)
    yield from _Reader(content, report).entries()


def _check_text(content: bytes) -> None:
    if len(content) > MAX_FILE_BYTES:
        raise YamlFault(1, 1, f"the file is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode("utf-8-sig", "replace"))
        raise YamlFault(line, column, f"the file is not UTF-8: byte 0x{content[error.start]:02x}") from error
    if found := _NOT_ALLOWED.search(text):
        line, column = _place(text[: found.start()])
        raise YamlFault(line, column, f"character {found.group()!a} is not allowed in YAML")


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Reader:
    def __init__(self, content: bytes, report: Callable[[int, int, str], None]) -> None:
        self._content = content
        self._parser = CParser(content)
        self._report = report

    def entries(self) -> Iterator[Entry]:
        self._next()  # the start of the stream
        start = self._next()
        if isinstance(start, StreamEndEvent):
            raise YamlFault(1, 1, "the file is empty: it must begin with 'version: 1'")
        root = self._next()
        if not isinstance(root, MappingStartEvent):
            raise _fault(root, "the file must be a mapping that begins with 'version: 1'")
        yield from self._top_level()
        self._next()  # the end of the document
        if isinstance(extra := self._next(), DocumentStartEvent):
            raise _fault(extra, "a second document in one file: put it into a file of its own")

    def _top_level(self) -> Iterator[Entry]:
        seen: dict[str, Scalar] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, seen)
            event = self._next()
            if not isinstance(event, SequenceStartEvent):
                yield Entry(key, self._node(event, 1), is_item=False)
                continue
            yield Entry(key, SequenceNode([], *_at(event)), is_item=False)
            while not isinstance(event := self._next(), SequenceEndEvent):
                yield Entry(key, self._node(event, 2), is_item=True)

    def _next(self) -> Event:
        try:
            # None only after the event that ends the stream, and nobody reads on from there.
            event = cast("Event", self._parser.get_event())
        except yaml.MarkedYAMLError as error:
            raise self._syntax_fault(error) from error
        if getattr(event, "anchor", None) is not None:
            what = "an alias" if isinstance(event, AliasEvent) else "an anchor"
            raise _fault(event, f"{what} is not allowed in policy: what a rule says must stand where it is read")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _fault(event, f"the tag {quoted(tag)} is not allowed in policy")
        return event

    def _syntax_fault(self, error: yaml.MarkedYAMLError) -> YamlFault:
        line, column = _at_mark(error.problem_mark)
        message = " ".join(filter(None, ("not valid YAML:", error.problem, error.context)))
        there = self._content.decode("utf-8-sig").split("\n")[line - 1 : line]
        if "tab character" in message or "".join(there)[column - 1 : column] == "\t":
            message = "a tab cannot indent YAML: use spaces"
        return YamlFault(line, column, message)

    def _node(self, event: Event, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return Scalar(event.value, *_at(event), event.implicit[0], event.style or "")
        if depth >= MAX_DEPTH:
            raise _fault(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _sequence(self, start: Event, depth: int) -> SequenceNode:
        items = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return SequenceNode(items, *_at(start))

    def _mapping(self, start: Event, depth: int) -> MappingNode:
        entries: dict[str, tuple[Scalar, Node]] = {}
        seen: dict[str, Scalar] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, seen)
            entries[key.text] = (key, self._node(self._next(), depth + 1))
        return MappingNode(entries, *_at(start))

    def _key(self, event: Event, seen: dict[str, Scalar]) -> Scalar:
        if not isinstance(event, ScalarEvent):
            raise _fault(event, "a key must be a word, not a list or a mapping")
        key = Scalar(event.value, *_at(event), event.implicit[0])
        first = seen.setdefault(key.text, key)
        if first is not key:
            self._report(key.line, key.column, f"{quoted(key.text)} is given twice; first at line {first.line}")
        return key


def _at(event: Event) -> tuple[int, int]:
    return _at_mark(event.start_mark)


def _at_mark(mark: Mark | _Mark | None) -> tuple[int, int]:
    """Return line and column, counted from 1. libyaml gives every event and every error its mark."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _fault(event: Event, message: str) -> YamlFault:
    return YamlFault(*_at(event), message)
