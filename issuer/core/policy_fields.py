"""Reads the fields of one mapping of a policy file, and reports each that is unknown, missing or of a wrong type."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.nearest import nearest
from issuer.core.patterns import PatternError
from issuer.core.policy_faults import Position, quoted
from issuer.core.yaml_reader import MappingNode, Scalar, SequenceNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from issuer.core.policy_faults import FaultList
    from issuer.core.yaml_reader import Node

_MAX_WORD: Final = 256
_MAX_SUGGESTIONS: Final = 5000
_KINDS: Final = {Scalar: "a single value", SequenceNode: "a list", MappingNode: "a mapping"}

T = TypeVar("T")


class Source:
    """One file of policy, and where its faults go."""

    def __init__(self, name: str, faults: FaultList, content: bytes = b"") -> None:
        self.name = name
        self.faults = faults
        self._content = content

    def position(self, node: Node) -> Position:
        """Return where ``node`` stands."""
        return Position(self.name, node.line, node.column)

    def report(self, node: Node, message: str, offset: int = 0) -> None:
        """Add a fault at ``node``, or ``offset`` characters into it."""
        self.faults.add(Position(self.name, node.line, node.column + offset), message)

    def report_within(self, node: Scalar, line: int, column: int, message: str) -> None:
        """Add a fault at a line and a column of the text of ``node``, as near as its style lets them be found."""
        if node.style == "|" and not self.faults.is_full:
            place = Position(self.name, node.line + line, column + self._indentation(node.line))
        elif line == 1 and node.style != ">":
            place = Position(self.name, node.line, node.column + (not node.plain) + column - 1)
        else:
            place = self.position(node)
        self.faults.add(place, message)

    def _indentation(self, line: int) -> int:
        """Return by how much the first line after ``line`` that has a text is indented."""
        lines = (text for text in self._lines[line:] if text.strip())
        first = next(lines, "")
        return len(first) - len(first.lstrip(" "))

    @cached_property
    def _lines(self) -> list[str]:
        return self._content.decode("utf-8-sig").splitlines()

    def report_unknown(self, node: Scalar, message: str, known: Iterable[str]) -> None:
        """Add a fault about a word, with the nearest known one. Costs nothing more once the list of faults is full."""
        if not self.faults.is_full:
            message += nearest(node.text[:_MAX_WORD], list(known)[:_MAX_SUGGESTIONS])
        self.report(node, message)

    def converted(self, node: Scalar | None, what: str, convert: Callable[[str], T]) -> T | None:
        """Return ``convert(text)``; ``None`` when there is no scalar, or with a fault when it raises ValueError."""
        if node is None:
            return None
        try:
            return convert(node.text)
        except PatternError as error:
            self.report(node, f"{what}: {error.message}", error.offset + (not node.plain))
        except ValueError as error:
            self.report(node, f"{what}: {error}")
        return None


class Fields:
    """The fields of one mapping. Every reader returns ``None`` or nothing after it has reported a fault."""

    def __init__(self, source: Source, node: Node, what: str, known: Iterable[str]) -> None:
        self.source = source
        self.node = node
        self.what = what
        self.is_mapping = isinstance(node, MappingNode)
        self._entries = node.entries if isinstance(node, MappingNode) else {}
        if not self.is_mapping:
            source.report(node, f"{what} must be a mapping, not {_KINDS[type(node)]}")
        for word, (key, _) in self._entries.items():
            if word not in known:
                _report_key(source, key, what, known)

    def node_of(self, key: str) -> Node | None:
        """Return the value of ``key`` as it was written."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def scalar(self, key: str) -> Scalar | None:
        """Return an optional single value."""
        node = self.node_of(key)
        return None if node is None else self._as_scalar(node, f"{self.what}: {key!r}")

    def required(self, key: str) -> Scalar | None:
        """Return a single value that must be there."""
        if self.is_mapping and key not in self._entries:
            self.source.report(self.node, f"{self.what}: {key!r} is missing")
        return self.scalar(key)

    def scalars(self, key: str) -> list[Scalar]:
        """Return an optional list of distinct single values; when given it is not empty, for empty never means all."""
        node = self.node_of(key)
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self.source.report(node, f"{self.what}: {key!r} must be a list, not {_KINDS[type(node)]}")
            return []
        if not node.items:
            self.source.report(node, f"{self.what}: {key!r} is empty; empty never means all")
        items = [self._as_scalar(item, f"{self.what}: an entry of {key!r}") for item in node.items]
        return self._distinct(key, [item for item in items if item is not None])

    def required_scalars(self, key: str) -> list[Scalar]:
        """Return a list as :meth:`scalars` does, that must be there."""
        if self.is_mapping and key not in self._entries:
            self.source.report(self.node, f"{self.what}: {key!r} is missing")
        return self.scalars(key)

    def word(self, key: str, known: Iterable[str]) -> str | None:
        """Return an optional single value that must be one of ``known``."""
        return self.one_of(self.scalar(key), key, known)

    def one_of(self, scalar: Scalar | None, key: str, known: Iterable[str]) -> str | None:
        """Return the text of ``scalar`` if it is one of ``known``."""
        if scalar is None or scalar.text in known:
            return scalar.text if scalar else None
        message = f"{self.what}: {key!r} must be one of {', '.join(known)}, not {quoted(scalar.text)}"
        self.source.report_unknown(scalar, message, known)
        return None

    def _as_scalar(self, node: Node, what: str) -> Scalar | None:
        if not isinstance(node, Scalar):
            self.source.report(node, f"{what} must be a single value, not {_KINDS[type(node)]}")
            return None
        if node.has_no_value:
            self.source.report(node, f"{what} has no value; leave it out, or write one")
            return None
        return node

    def _distinct(self, key: str, items: list[Scalar]) -> list[Scalar]:
        seen: set[str] = set()
        for item in items:
            if item.text in seen:
                self.source.report(item, f"{self.what}: {key!r} names {quoted(item.text)} twice")
            seen.add(item.text)
        return items


def _report_key(source: Source, key: Scalar, what: str, known: Iterable[str]) -> None:
    source.report_unknown(key, f"{what}: unknown key {quoted(key.text)}", known)
