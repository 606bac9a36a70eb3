"""A signed status list: what is taken for one, and what attacks on its form come to."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forging import OMIT, Forge, as_json, claims, encoded, fixed_forge, without_omitted

from agent_client.verification.algorithms import ALGORITHMS, VerificationKey
from agent_client.verification.errors import RejectionReason, TokenRejected
from agent_client.verification.key_set import read_key_set
from agent_client.verification.status_token import (
    MAX_LIST_BYTES,
    MAX_TEXT_BYTES,
    ListFault,
    ListRules,
    Place,
    ReadList,
    inflated,
    place_of,
    read_header_of,
    read_list,
)
from agent_client.verification.verified_token import VerifiedToken
from issuer.core.base64url import base64url_decoded
from issuer.core.status_list import ListTerms, StatusList, status_list_payload

VECTORS = sorted((Path(__file__).parents[3] / "vectors" / "status_list").glob("*.json"))
FORGE = fixed_forge()
ISSUER = "https://issuer.example"
URI = f"{ISSUER}/status-lists/1"
NOW = 1_000_000
RULES = ListRules(ISSUER, ALGORITHMS, 5.0)
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "sub": URI,
    "iat": NOW,
    "exp": NOW + 600,
    "ttl": 30,
    "status_list": {"bits": 1, "lst": "eNrbuRgAAhcBXQ"},
}


def key_of(forge: Forge) -> VerificationKey:
    return read_key_set(forge.jwks).keys[forge.key_id]


def signed(*, typ: object = "statuslist+jwt", forge: Forge = FORGE, **changes: Any) -> str:
    return forge.sign(forge.header(typ=typ), payload=as_json(without_omitted({**GOOD, **changes})))


def read(text: str, *, now: float = NOW, key: VerificationKey | None = None) -> ReadList:
    return read_list(read_header_of(text, ALGORITHMS), key or key_of(FORGE), URI, RULES, now)


def listed(lst: str, bits: object = 1) -> dict[str, object]:
    return {"bits": bits, "lst": lst}


@pytest.mark.parametrize("file", VECTORS, ids=lambda file: file.stem)
def test_decodes_the_drafts_vectors(file: Path) -> None:
    """The list of 8 bits is larger than any that is taken: its bytes are decoded as they are."""
    vector = json.loads(file.read_text(encoding="utf-8"))
    entries = zlib.decompress(base64url_decoded(vector["lst"]))
    read_entries = ReadList(1, 2, 3, vector["bits"], entries)
    statuses = {int(index): status for index, status in vector["statuses"].items()}
    found = {index: status for index in range(vector["size"]) if (status := read_entries.status(index))}
    assert found == statuses
    if len(entries) <= MAX_LIST_BYTES:
        assert inflated(base64url_decoded(vector["lst"])) == entries


def test_reads_what_the_issuer_writes() -> None:
    made = StatusList(1 << 17)
    made.invalidate([0, 77, (1 << 17) - 1])
    payload = status_list_payload(made, ListTerms(ISSUER, URI, f"{ISSUER}/status-lists", NOW, 600, 30))
    found = read(FORGE.sign(FORGE.header(typ="statuslist+jwt"), payload=payload))
    assert (found.issued_at, found.expires_at, found.ttl, found.bits) == (NOW, NOW + 600, 30, 1)
    assert [index for index in range(1 << 17) if found.status(index)] == [0, 77, (1 << 17) - 1]


@given(bits=st.sampled_from([1, 2, 4, 8]), statuses=st.dictionaries(st.integers(0, 63), st.integers(1, 255)))
def test_reads_every_status_that_the_issuer_puts(bits: int, statuses: dict[int, int]) -> None:
    made = StatusList(64, bits)
    put = {index: status % (1 << bits) for index, status in statuses.items()}
    for index, status in put.items():
        made.put(index, status)
    found = ReadList(1, 2, 3, bits, inflated(base64url_decoded(made.encoded())))
    assert [found.status(index) for index in range(64)] == [put.get(index, 0) for index in range(64)]
    assert found.status(64) is None


@pytest.mark.parametrize("index", [-1, 16, 1 << 40])
def test_an_entry_out_of_range_has_no_status(index: int) -> None:
    found = read(signed())
    assert [found.status(0), found.status(15)] == [1, 1]
    assert found.status(index) is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sub": f"{ISSUER}/status-lists/2"}, "its sub is not the address"),
        ({"sub": OMIT}, "its sub is not the address"),
        ({"iss": "https://other.example"}, "of another issuer"),
        ({"iat": NOW + 6}, "iat is in the future"),
        ({"iat": OMIT}, "its iat is no"),
        ({"iat": True}, "its iat is no"),
        ({"exp": NOW - 5}, "it has expired"),
        ({"exp": OMIT}, "its exp is no"),
        ({"ttl": 0}, "its ttl is no"),
        ({"ttl": 1.5}, "its ttl is no"),
        ({"status_list": OMIT}, "has no bits and no lst"),
        ({"status_list": listed("eNrbuRgAAhcBXQ", 3)}, "has no bits and no lst"),
        ({"status_list": listed("eNrbuRgAAhcBXQ", True)}, "has no bits and no lst"),  # noqa: FBT003
        ({"status_list": listed("eNrbuRgAAhcBXQ=")}, "has no bits and no lst"),
        ({"status_list": listed("")}, "has no bits and no lst"),
        ({"status_list": listed("\u00e9")}, "has no bits and no lst"),
        ({"status_list": listed(encoded(zlib.compress(bytes(2))[:-1]))}, "no whole ZLIB stream"),
        ({"status_list": listed(encoded(zlib.compress(bytes(2)) + b"x"))}, "no whole ZLIB stream"),
        ({"status_list": listed(encoded(zlib.compress(b"")))}, "no whole ZLIB stream"),
        ({"status_list": listed(encoded(b"\x00\x01\x02"))}, "no ZLIB stream"),
        ({"status_list": listed(encoded(zlib.compress(bytes(8))[2:-4]))}, "no ZLIB stream"),
    ],
)
def test_refuses_what_is_no_list_of_this_address_now(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ListFault, match=fault):
        read(signed(**changes))


def test_times_have_a_leeway_on_both_sides() -> None:
    assert read(signed(iat=NOW + 5))
    assert read(signed(), now=NOW + 604)
    with pytest.raises(ListFault, match="expired"):
        read(signed(), now=NOW + 605)


@pytest.mark.parametrize("typ", ["at+jwt", "JWT", OMIT, 1])
def test_another_kind_of_token_is_no_list(typ: object) -> None:
    with pytest.raises(ListFault, match="no signed status list"):
        read(signed(typ=typ))


def test_a_list_is_no_access_token() -> None:
    from agent_client.verification.compact import parse_compact  # noqa: PLC0415 - the reader of the other kind

    with pytest.raises(TokenRejected) as refused:
        parse_compact(signed(), {})
    assert refused.value.reason is RejectionReason.TYPE_WRONG


def test_a_foreign_key_under_our_kid_signs_no_list() -> None:
    impostor = Forge(kid=FORGE.key_id)
    with pytest.raises(ListFault, match="signature does not hold"):
        read(signed(forge=impostor))


def test_an_algorithm_that_is_not_taken_or_not_of_the_key_signs_no_list() -> None:
    with pytest.raises(ListFault, match="alg is not one"):
        read_header_of(signed(), frozenset({"RS256"}))
    header = FORGE.header(typ="statuslist+jwt", alg="RS256")
    with pytest.raises(ListFault, match="not the one that its key is for"):
        read(FORGE.sign(header, payload=as_json(GOOD)))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(200 * 1024 * 1024), 9)
    assert len(bomb) < MAX_TEXT_BYTES
    with pytest.raises(ListFault, match="inflates to more"):
        inflated(bomb)


def test_a_list_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    assert len(inflated(zlib.compress(bytes(MAX_LIST_BYTES)))) == MAX_LIST_BYTES
    with pytest.raises(ListFault):
        inflated(zlib.compress(bytes(MAX_LIST_BYTES + 1)))


def token(**changes: object) -> VerifiedToken:
    said = claims(**changes)
    return VerifiedToken(ISSUER, "s", "s", "a", (), "t", None, None, False, said)  # noqa: FBT003


def test_says_where_a_token_has_its_status() -> None:
    assert place_of(token()) is None
    assert place_of(token(status={"status_list": {"idx": 0, "uri": URI}})) == Place(URI, 0)


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        "revoked",
        {"status_list": {"idx": -1, "uri": URI}},
        {"status_list": {"idx": True, "uri": URI}},
        {"status_list": {"idx": "1", "uri": URI}},
        {"status_list": {"uri": URI}},
        {"status_list": {"idx": 1}},
        {"status_list": {"idx": 1, "uri": "https://issuer.example.evil/1"}},
        {"status_list": {"idx": 1, "uri": "https://169.254.169.254/latest"}},
        {"status_list": {"idx": 1, "uri": ISSUER}},
    ],
)
def test_a_status_that_cannot_be_looked_up_at_the_issuer_is_refused(status: object) -> None:
    with pytest.raises(TokenRejected) as refused:
        place_of(token(status=status))
    assert (refused.value.reason, refused.value.claim) == (RejectionReason.CLAIMS_MALFORMED, "status")
