"""One way to write a policy file: indentation, quotes, spaces, the order of a rule's keys. What it says stays.

The YAML library that keeps comments does the work. It is not trusted with it: the result is read again by our own
reader and has to hold the same values and the same comments, and has to stay as it is when it is formatted again.
"""

from __future__ import annotations

from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from issuer.core.policy_rules import AUDIENCE, GRANT, LIMIT, PROHIBITION
from issuer.core.policy_sections import CONDITION, ENVIRONMENT, FACT, FOLDER, GROUP
from issuer.core.yaml_reader import MappingNode, Scalar, YamlFault, read_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.yaml_reader import Node

WIDTH: Final = 120
"""A list or mapping within brackets that would be longer is written over several lines."""
_ORDERS: Final = {
    "audiences": AUDIENCE,
    "grants": GRANT,
    "prohibitions": PROHIBITION,
    "limits": LIMIT,
    "environments": ENVIRONMENT,
    "groups": GROUP,
    "facts": FACT,
    "conditions": CONDITION,
    "folders": FOLDER,
}


class CannotFormat(Exception):
    """A file is left as it is; the message says why."""


def formatted(content: bytes) -> bytes:
    """Return a policy file, or a file of cases, in the one way to write it.

    Raises:
        CannotFormat: It cannot be read, or its formatted text would not say the same.
    """
    before = _nodes(content)
    text = _rewritten(_rewritten(content.decode("utf-8-sig")))  # the second time settles what the first one moved
    after = text.encode()
    if _nodes(after) != before or _comments(text) != _comments(content.decode("utf-8-sig")):
        raise CannotFormat("formatted, it would not say the same: please report this file")
    if _rewritten(text) != text:
        raise CannotFormat("formatted twice, it would differ: please report this file")
    return after


def _rewritten(text: str) -> str:
    writer = YAML()  # round trip: with comments
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 1_000_000  # never folds a value: what a condition says stays on its line
    try:
        document = writer.load(text)
    except YAMLError as error:
        raise CannotFormat(f"cannot be read: {str(error).splitlines()[0]}") from None
    if isinstance(document, CommentedMap):
        _put_in_order(document)
    _open_what_is_long(document, 0)
    stream = StringIO()
    writer.dump(document, stream)
    lines = (line.rstrip(" ") for line in stream.getvalue().split("\n"))
    return "\n".join(lines).rstrip("\n") + "\n"


def _put_in_order(document: CommentedMap) -> None:
    for section, order in _ORDERS.items():
        for rule in document.get(section) or ():
            if isinstance(rule, CommentedMap):
                _sort(rule, order)


def _sort(mapping: CommentedMap, order: tuple[str, ...]) -> None:
    """Put keys in their order, unless there are other keys, or comments, which might then stand by another key."""
    if mapping.ca.items or mapping.ca.comment or not set(mapping) <= set(order) or _has_comments(mapping):
        return
    for key in sorted(mapping, key=order.index):
        mapping.move_to_end(key)


def _has_comments(value: Any) -> bool:  # noqa: ANN401 - what the library reads
    if not isinstance(value, CommentedMap | CommentedSeq):
        return False
    held = value.values() if isinstance(value, CommentedMap) else value
    return bool(value.ca.items or value.ca.comment or value.ca.end) or any(map(_has_comments, held))


def _open_what_is_long(value: Any, column: int) -> None:  # noqa: ANN401 - what the library reads
    """Write over several lines what is within brackets and would not fit on one."""
    if not isinstance(value, CommentedMap | CommentedSeq):
        return
    if value.fa.flow_style() and column + _length(value) > WIDTH:
        value.fa.set_block_style()
    held = value.items() if isinstance(value, CommentedMap) else (("", each) for each in value)
    for key, each in held:
        beside = len(str(key)) + 2 if value.fa.flow_style() is not True else 0
        _open_what_is_long(each, column + 2 + beside)


def _length(value: Any) -> int:  # noqa: ANN401 - what the library reads
    if isinstance(value, CommentedMap):
        return sum(len(str(key)) + 4 + _length(each) for key, each in value.items()) + 2
    if isinstance(value, CommentedSeq):
        return sum(2 + _length(each) for each in value) + 2
    return len(str(value))


def _nodes(content: bytes) -> list[object]:
    """Return what a file says, without where and how it is written; the order of keys says nothing."""
    faults: list[str] = []

    def report(line: int, column: int, message: str) -> None:
        faults.append(f"{line}:{column}: {message}")

    try:
        entries: list[object] = [(each.key.text, _said(each.node)) for each in read_entries(content, report)]
    except YamlFault as error:
        raise CannotFormat(f"{error.line}:{error.column}: {error.message}") from None
    if faults:
        raise CannotFormat(faults[0])
    return entries


def _said(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text, node.has_no_value
    if isinstance(node, MappingNode):
        return {word: _said(value) for word, (_, value) in node.entries.items()}
    return [_said(item) for item in node.items]


def _comments(text: str) -> Counter[str]:
    """Return the comments of a text: what is between its tokens and not white space."""
    return Counter(comment for gap in _gaps(text) for line in gap.split("\n") if (comment := line.strip(" \t\r")))


def _gaps(text: str) -> Iterator[str]:
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        yield text[end : token.start_mark.index]
        end = max(end, token.end_mark.index)
    yield text[end:]
