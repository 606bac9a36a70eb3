"""The values of YAML as JSON would read them: plain ``true``, ``false`` and numbers are values, all else is text."""

from __future__ import annotations

import re

from issuer.core.yaml_reader import MappingNode, Node, Scalar, YamlFault

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # RFC 8259 section 6


def mapping_of(node: Node, what: str) -> dict[str, object]:
    """Return the members of a mapping.

    Raises:
        YamlFault: ``node`` is none; the message begins with ``what``.
    """
    if not isinstance(node, MappingNode):
        raise YamlFault(node.line, node.column, f"{what} is a mapping")
    return {word: value_of(value) for word, (_, value) in node.entries.items()}


def value_of(node: Node) -> object:
    """Return the value that a node spells."""
    if isinstance(node, MappingNode):
        return mapping_of(node, "")
    if not isinstance(node, Scalar):
        return [value_of(item) for item in node.items]
    if node.plain and node.text in {"true", "false"}:
        return node.text == "true"
    if node.plain and (number := _NUMBER.fullmatch(node.text)):
        return float(node.text) if number[2] or number[3] else int(node.text)
    return node.text
