from __future__ import annotations

import importlib
import sys
import time
from contextlib import suppress

import pytest

from issuer.core import yaml_reader
from issuer.core.yaml_reader import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    Entry,
    MappingNode,
    Scalar,
    SequenceNode,
    YamlFault,
    read_entries,
)


def read(text: str | bytes) -> list[Entry]:
    def refuse(line: int, column: int, message: str) -> None:
        raise AssertionError((line, column, message))

    return list(read_entries(text.encode() if isinstance(text, str) else text, refuse))


def fault(text: str | bytes) -> tuple[int, int, str]:
    with pytest.raises(YamlFault) as caught:
        read(text)
    return caught.value.line, caught.value.column, caught.value.message


def test_yields_values_whole_and_lists_item_by_item_with_their_places() -> None:
    a, b, c = Scalar("a", 1, 1, plain=True), Scalar("b", 2, 1, plain=True), Scalar("c", 5, 1, plain=True)
    inner = MappingNode({"x": (Scalar("x", 4, 6, plain=True), Scalar("y", 4, 9, plain=False, style="'"))}, 4, 5)
    nested = SequenceNode([Scalar("z", 6, 8, plain=True)], 6, 7)
    assert read("a: 1\nb:\n  - no\n  - {x: 'y'}\nc:\n   d: [z]\n") == [
        Entry(a, Scalar("1", 1, 4, plain=True), is_item=False),
        Entry(b, SequenceNode([], 3, 3), is_item=False),
        Entry(b, Scalar("no", 3, 5, plain=True), is_item=True),
        Entry(b, inner, is_item=True),
        Entry(c, MappingNode({"d": (Scalar("d", 6, 4, plain=True), nested)}, 6, 4), is_item=False),
    ]


def test_columns_count_characters_not_bytes() -> None:
    assert read('{"é😀": [b]}')[1].node == Scalar("b", 1, 9, plain=True)


def test_a_byte_order_mark_and_windows_line_ends_are_ordinary() -> None:
    assert read("\ufeffa: 1\r\nb: 2\r\n")[1].node == Scalar("2", 2, 4, plain=True)


@pytest.mark.parametrize("text", ["", "~", "null", "NULL", "Null"])
def test_nothing_and_null_are_no_value(text: str) -> None:
    node = read(f"a: {text}")[0].node
    assert isinstance(node, Scalar)
    assert node.has_no_value


@pytest.mark.parametrize("text", ["''", "'null'", '"~"', "no", "0", "false"])
def test_quoted_words_and_false_are_values(text: str) -> None:
    node = read(f"a: {text}")[0].node
    assert isinstance(node, Scalar)
    assert not node.has_no_value


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("---\n", 2, 1, "must be a mapping"),
        ("- a\n", 1, 1, "must be a mapping"),
        ("text", 1, 1, "must be a mapping"),
        ("a: &x 1", 1, 4, "an anchor is not allowed"),
        ("a: &x [1]", 1, 4, "an anchor is not allowed"),
        ("&x a: 1", 1, 1, "an anchor is not allowed"),
        ("a: 1\nb: *x", 2, 4, "an alias is not allowed"),
        ("a: !!python/object:os.system 1", 1, 4, "the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed"),
        ("a: !x [1]", 1, 4, "the tag '!x' is not allowed"),
        ("a: ! x", 1, 4, "the tag '!' is not allowed"),
        ("a: 1\n---\nb: 2", 2, 1, "a second document"),
        ("a: 1\n...\n---\n", 3, 1, "a second document"),
        ("? [a]\n: 1", 1, 3, "a key must be a word"),
        ("{a: {{b: 1}: 2}}", 1, 6, "a key must be a word"),
        ("a:\n\t- b", 2, 1, "a tab cannot indent YAML"),
        ("a: b\n\tc: d", 2, 1, "a tab cannot indent YAML"),
        ("a: 'open", 1, 9, "not valid YAML: found unexpected end of stream while scanning a quoted scalar"),
        ("a: b: c", 1, 5, "not valid YAML: mapping values are not allowed in this context"),
        ("a: [b", 2, 1, "not valid YAML"),
        ("a: @b", 1, 4, "not valid YAML: found character that cannot start any token"),
        ("%YAML 1.3\n---\na: 1", 1, 1, "not valid YAML: found incompatible YAML document"),
        ('a: "\\ud800"', 1, 7, "not valid YAML: found invalid Unicode character escape code"),
        ("a: x\x00y", 1, 5, r"character '\x00' is not allowed"),
        ("a: 1\nbb: \x1b[31m", 2, 5, r"character '\x1b' is not allowed"),
        ("a: x\x7f", 1, 5, r"character '\x7f' is not allowed"),
        ("a: x\x85b: y", 1, 5, r"character '\x85' is not allowed"),
        ("a: \u2028b: y", 1, 4, r"character '\u2028' is not allowed"),
        ("a: 1\rb: y", 1, 5, r"character '\r' is not allowed"),
        ("a: \ufeff1", 1, 4, r"character '\ufeff' is not allowed"),
        ("a: \ufffe", 1, 4, r"character '\ufffe' is not allowed"),
        (b"a: 1\nb\xc3\xa9: \xff", 2, 5, "the file is not UTF-8: byte 0xff"),
        (b"\xff\xfea\x00:\x00", 1, 1, "the file is not UTF-8: byte 0xff"),
        (b"a: \xed\xa0\x80", 1, 4, "the file is not UTF-8: byte 0xed"),
    ],
)
def test_refuses_what_is_not_plain_yaml_with_its_place(text: str | bytes, line: int, column: int, says: str) -> None:
    found_line, found_column, message = fault(text)
    assert says in message
    assert (found_line, found_column) == (line, column)


def test_everything_that_editors_write_is_allowed() -> None:
    node = read("a: 'é \u4e2d \U0001f600 \xa0 \u2027 \ufffd \ue000'")[0].node
    assert isinstance(node, Scalar)
    assert node.text == "é \u4e2d \U0001f600 \xa0 \u2027 \ufffd \ue000"


def test_a_key_given_twice_is_reported_and_reading_goes_on() -> None:
    reports: list[tuple[int, int, str]] = []
    entries = list(read_entries(b"a: 1\nb: {x: 1, x: 2}\na: 3\n", lambda *report: reports.append(report)))
    assert reports == [(2, 11, "'x' is given twice; first at line 2"), (3, 1, "'a' is given twice; first at line 1")]
    assert len(entries) == 3


def nested(depth: int) -> str:
    """Return a document with so many collections inside each other, the root included."""
    return "a: " + "[" * (depth - 1) + "]" * (depth - 1)


def test_depth_has_a_limit() -> None:
    assert read(nested(MAX_DEPTH))
    assert fault(nested(MAX_DEPTH + 1)) == (1, MAX_DEPTH + 3, f"nested deeper than {MAX_DEPTH} levels")
    assert "nested deeper" in fault("a: " + "{b: " * 40 + "}" * 40)[2]


@pytest.mark.parametrize("unit", ["[", "{a: ", "- ", "? ", "[[],", "'", "!", "%", "a: ", "\n ", "#", "|\n", "- - "])
def test_hostile_repetition_ends_soon(unit: str) -> None:
    """libyaml alone takes two minutes for 200,000 opening brackets."""
    began = time.perf_counter()
    for prefix in ("", "a: "):
        with suppress(YamlFault):
            read(prefix + unit * 200_000)
    assert time.perf_counter() - began < 10


def test_a_file_beyond_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FILE_BYTES == 64 * 1024 * 1024
    monkeypatch.setattr(yaml_reader, "MAX_FILE_BYTES", 1024 * 1024)
    text = b"a: 1\n#"
    assert read(text + b"x" * (1024 * 1024 - len(text)))
    assert fault(text + b"x" * (1024 * 1024 - len(text) + 1)) == (1, 1, "the file is larger than 1 MiB: split it")


def test_an_installation_without_libyaml_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml._yaml", None)
    monkeypatch.delitem(sys.modules, "issuer.core.yaml_reader")
    with pytest.raises(ImportError, match="PyYAML was built without libyaml"):
        importlib.import_module("issuer.core.yaml_reader")
