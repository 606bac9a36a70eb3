from __future__ import annotations

import pytest

from issuer.core.yaml_reader import YamlFault, read_entries
from issuer.core.yaml_values import mapping_of, value_of


def value(text: str) -> object:
    (entry,) = read_entries(f"a: {text}".encode(), lambda *_: None)
    return value_of(entry.node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{b: true, c: 'true'}", {"b": True, "c": "true"}),
        ("{b: false, c: 1, d: -2, e: 1.5, f: 1e3}", {"b": False, "c": 1, "d": -2, "e": 1.5, "f": 1000.0}),
        ("{b: 01, c: 0x1, d: no, e: 1_0, f: '1'}", {"b": "01", "c": "0x1", "d": "no", "e": "1_0", "f": "1"}),
        ("{b: [1, x]}", {"b": [1, "x"]}),
    ],
)
def test_reads_what_json_would(text: str, expected: object) -> None:
    assert value(text) == expected


def test_what_is_no_mapping_is_refused() -> None:
    (entry,) = read_entries(b"a: 3", lambda *_: None)
    with pytest.raises(YamlFault) as caught:
        mapping_of(entry.node, "a fact")
    assert (caught.value.line, caught.value.column, caught.value.message) == (1, 4, "a fact is a mapping")
