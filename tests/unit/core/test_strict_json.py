"""What others say in JSON has one reading, or none."""

from __future__ import annotations

import pytest

from issuer.core.strict_json import MAX_DEPTH, strict_object


def test_reads_an_object() -> None:
    assert strict_object(b'{"a":{"b":[1,"\xc3\xa4",null]}}') == {"a": {"b": [1, "ä", None]}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"a"',
        b"{}{}",
        b" {}",
        b"{} ",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'\xff{"a":1}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 100_000,
    ],
)
def test_refuses_what_parsers_disagree_on(data: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        strict_object(data)


def test_bounds_how_deep_it_nests() -> None:
    deepest = '{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1)
    assert strict_object(deepest.encode())
    with pytest.raises(ValueError, match="one JSON object"):
        strict_object(f'{{"a":{deepest}}}'.encode())


def test_a_refusal_says_nothing_of_the_text() -> None:
    with pytest.raises(ValueError, match="strict JSON") as refusal:
        strict_object(b'{"token":"secret","token":"secret"}')
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
