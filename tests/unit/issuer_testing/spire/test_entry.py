from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire.entry import Entry, EntryFileError, entries_json, read_entries

if TYPE_CHECKING:
    from pathlib import Path

FULL = Entry(
    "spiffe://prod.example/spiffe-issuer",
    parent_id="spiffe://prod.example/dev-host",
    selectors=("unix:user:spiffe-issuer", "unix:path:/usr/bin/issuer"),
    dns_names=("spiffe-issuer.workload.internal",),
    hint="issuer",
    x509_svid_ttl=3600,
    federates_with=("spiffe://partner.example",),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "issuer.json"
    file.write_text(entries_json([FULL, Entry("spiffe://prod.example/a")]))
    assert read_entries(file) == (FULL, Entry("spiffe://prod.example/a"))


def test_fields_that_are_unset_are_left_out() -> None:
    assert json.loads(entries_json([Entry("spiffe://prod.example/a")])) == {
        "entries": [{"spiffe_id": "spiffe://prod.example/a"}]
    }


def test_an_entry_moves_to_another_node() -> None:
    moved = FULL.on("spiffe://prod.example/node", "unix:uid:7")
    assert (moved.parent_id, moved.selectors) == ("spiffe://prod.example/node", ("unix:uid:7",))
    assert moved.dns_names == FULL.dns_names


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "entries"),
        ('{"entries": [{}]}', "spiffe_id"),
        ('{"entries": [{"spiffe_id": 7}]}', "should be a text"),
        ('{"entries": [{"spiffe_id": "spiffe://a/b", "dns": ["x"]}]}', "unknown field 'dns'"),
        ('{"entries": [{"spiffe_id": "spiffe://a/b", "selectors": [{"type": "unix"}]}]}', "value"),
    ],
)
def test_a_file_that_spire_would_not_take_is_named_with_its_fault(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(EntryFileError, match=complaint) as fault:
        read_entries(file)
    assert str(file) in str(fault.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EntryFileError, match=r"absent\.json"):
        read_entries(tmp_path / "absent.json")
