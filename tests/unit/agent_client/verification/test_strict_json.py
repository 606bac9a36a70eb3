"""Strict JSON: what two parsers could read differently is not read at all."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.verification.strict_json import MAX_DEPTH, strict_object


def nested(depth: int, opening: str, closing: str) -> bytes:
    """An object whose member "a" holds ``depth - 1`` more levels."""
    return f'{{"a":{opening * (depth - 1)}1{closing * (depth - 1)}}}'.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        '{"a":[{"b":1,"\\u0062":2}]}',  # the same name, spelled in two ways
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400}',
        '{"a":-1e400}',
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1,}',
        "{'a':1}",
        '{"a":"\n"}',
        '{"a":1}{"a":1}',
        '{"a":1} x',
        '{"a":1}\x00',
        '\x00{"a":1}',
        '\x0b{"a":1}',
        '\u00a0{"a":1}',
        '\ufeff{"a":1}',
        '{"a":1} // why',
        "[]",
        '"a"',
        "1",
        "null",
        "",
        "{",
        '{"a":' + "9" * 5000 + "}",
    ],
)
def test_refuses(text: str) -> None:
    assert strict_object(text.encode()) is None


@pytest.mark.parametrize("data", [b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}', b"\xfe\xff\x00{\x00}"])
def test_refuses_what_is_not_utf_8(data: bytes) -> None:
    assert strict_object(data) is None


def test_takes_escapes_white_space_and_every_kind_of_value() -> None:
    text = b' \t\r\n{"a":"\\u00e9\\ud83d\\ude00","b":[1,-2.5e3,true,false,null,{}]}\n'
    assert strict_object(text) == {"a": "é😀", "b": [1, -2500.0, True, False, None, {}]}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_takes_what_nests_as_deep_as_is_allowed_and_no_deeper(opening: str, closing: str) -> None:
    assert strict_object(nested(MAX_DEPTH, opening, closing)) is not None
    assert strict_object(nested(MAX_DEPTH + 1, opening, closing)) is None


def test_takes_many_brackets_that_do_not_nest() -> None:
    assert strict_object(b'{"a":[' + b"{}," * 500 + b"[]]}") is not None
    assert strict_object(b'{"a":"' + b"[{" * 500 + b'"}') is not None


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_refuses_nesting_that_exhausts_the_stack(opening: str) -> None:
    assert strict_object(opening.encode() * 100_000) is None
    assert strict_object(nested(sys.getrecursionlimit() * 3, "[", "]")) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.booleans())
def test_reads_what_the_standard_library_writes(value: dict[str, object], ascii_only: bool) -> None:  # noqa: FBT001
    assert strict_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0aD8 1e-.', max_size=60).map(str.encode))
def test_never_reads_what_the_standard_library_does_not(data: bytes) -> None:
    if (value := strict_object(data)) is not None:
        assert json.loads(data) == value
