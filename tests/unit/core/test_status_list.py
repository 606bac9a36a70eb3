"""Status lists by the draft's own vectors, and as signed claims."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest

from issuer.core.status_list import ListTerms, Status, StatusList, status_list_payload

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "status_list").glob("*.json"))


def inflated(lst: str) -> bytes:
    return zlib.decompress(urlsafe_b64decode(lst + "=" * (-len(lst) % 4)))


@pytest.mark.parametrize("file", VECTORS, ids=lambda file: file.stem)
def test_encodes_as_the_draft_does(file: Path) -> None:
    """Compressed bytes may differ between versions of zlib; what they hold may not."""
    vector = json.loads(file.read_text(encoding="utf-8"))
    listed = StatusList(-(-vector["size"] // 8) * 8, vector["bits"])
    for index, status in vector["statuses"].items():
        listed.put(int(index), status)
    assert inflated(listed.encoded())[: len(inflated(vector["lst"]))] == inflated(vector["lst"])


def test_there_are_vectors() -> None:
    assert len(VECTORS) == 6


@pytest.mark.parametrize(("size", "bits"), [(0, 1), (-8, 1), (7, 1), (8, 3), (8, 0), (8, 16)])
def test_refuses_a_size_or_bits_that_no_list_has(size: int, bits: int) -> None:
    with pytest.raises(ValueError, match="a multiple of 8 entries"):
        StatusList(size, bits)


@pytest.mark.parametrize(("index", "status"), [(-1, 0), (8, 0), (0, 4), (0, -1)])
def test_refuses_entries_and_statuses_out_of_range(index: int, status: int) -> None:
    with pytest.raises(ValueError, match="no such entry"):
        StatusList(8, 2).put(index, status)


def test_a_status_that_is_put_again_replaces_the_one_before() -> None:
    listed = StatusList(8, 4)
    listed.put(1, 15)
    assert inflated(listed.encoded())[0] == 0xF0
    listed.put(1, 2)
    assert inflated(listed.encoded())[0] == 0x20


def test_invalidates_many_and_tells_whether_anything_changed() -> None:
    listed = StatusList(16)
    assert listed.invalidate([0, 9])
    assert not listed.invalidate([9, 0])
    assert listed.encoded() is listed.encoded(), "compressed once"
    assert listed.invalidate([9, 15])
    assert inflated(listed.encoded()) == bytes([0b1, 0b1000_0010])
    with pytest.raises(IndexError):
        listed.invalidate([16])


def test_a_signed_list_says_what_it_is_and_for_how_long() -> None:
    listed = StatusList(8)
    listed.put(3, Status.INVALID)
    terms = ListTerms(
        "https://i.example", "https://i.example/status-lists/1", "https://i.example/status-lists", 9, 5, 2
    )
    claims: dict[str, Any] = json.loads(status_list_payload(listed, terms))
    lst = claims["status_list"].pop("lst")
    assert inflated(lst) == b"\x08"
    assert claims == {
        "iss": "https://i.example",
        "sub": "https://i.example/status-lists/1",
        "iat": 9,
        "exp": 14,
        "ttl": 2,
        "status_list": {"bits": 1, "aggregation_uri": "https://i.example/status-lists"},
    }
