"""Which keys sign, which are published, and what is known of those before, after whatever happened to their files."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from issuer.core.jwk import PublicJwk, public_jwk
from issuer.core.key_ring import (
    LEEWAY_SECONDS,
    MAX_KNOWN,
    MAX_PUBLISHED,
    MICROSECONDS,
    SETTLE_SECONDS,
    SPREAD_SECONDS,
    FormerKey,
    KeyRing,
    KeyRingError,
    KeyState,
    NextKey,
    ring_found,
)
from issuer.core.key_ring_text import ring_from_text, ring_text

NOW = 1_900_000_000


def key() -> PublicJwk:
    return public_jwk(generate_private_key(SECP256R1()).public_key())


A, B, C = key(), key(), key()


def ids(*keys: PublicJwk) -> list[str]:
    return [each.key_id for each in keys]


def published(ring: KeyRing) -> list[str]:
    return [each.key_id for each in ring.published.keys]


def known(ring: KeyRing) -> list[str]:
    return [each.key_id for each in ring.known.keys]


def test_a_next_key_may_sign_once_it_was_published_for_as_long_as_a_set_is_kept() -> None:
    ring = KeyRing(A, next=NextKey(B))
    assert KeyRing(A).ready_at(300) is None
    assert ring.ready_at(300) is None
    assert ring.with_published(NOW).ready_at(300) == NOW + 300 + SPREAD_SECONDS
    assert ring.with_published(NOW).with_published(NOW + 9) == ring.with_published(NOW), "the first time counts"
    assert KeyRing(A).with_published(NOW) == KeyRing(A)
    assert ring.without_next() == KeyRing(A)


def test_activation_keeps_the_key_before_in_the_set() -> None:
    ring = KeyRing(A, next=NextKey(B, NOW))
    assert published(ring) == ids(A, B)
    after = ring.activated(NOW + 400)
    assert after == KeyRing(B, NOW + 400, None, (FormerKey(A, 0, NOW + 400),))
    assert published(after) == known(after) == ids(B, A)
    with pytest.raises(KeyRingError, match="no next key"):
        after.activated(NOW)


def test_a_key_that_is_gone_is_known_and_not_published() -> None:
    former = FormerKey(A, 0, NOW)
    ring = KeyRing(B, NOW, None, (former, FormerKey(C, 0, 1)))
    gone = ring.with_former(former._replace(gone=NOW + 1))
    assert (published(gone), known(gone)) == (ids(B, C), ids(B, A, C))
    assert [each.state for each in gone.former] == [KeyState.GONE, KeyState.RETIRED]
    assert gone.find(A.key_id) == former._replace(gone=NOW + 1)
    assert gone.find(B.key_id) is None


def test_the_number_of_keys_is_bounded() -> None:
    former = tuple(FormerKey(key(), 0, NOW) for _ in range(MAX_PUBLISHED - 1))
    KeyRing(A, 0, None, former[1:]).check_room()
    with pytest.raises(KeyRingError, match="16 keys are published"):
        KeyRing(A, 0, None, former).check_room()
    many = (FormerKey(C, 0, NOW, gone=NOW),) * MAX_KNOWN
    assert len(KeyRing(A, 0, NextKey(B), many).activated(NOW).former) == MAX_KNOWN


def test_what_a_key_signed_is_told_by_when_it_was_decided() -> None:
    ring = KeyRing(C, NOW + 1000, None, (FormerKey(B, NOW, NOW + 1000), FormerKey(A, 0, NOW)))
    settle = SETTLE_SECONDS * MICROSECONDS
    first, second = NOW * MICROSECONDS, (NOW + 1000) * MICROSECONDS
    assert ring.signed_from(A.key_id) == (0, first + settle)
    assert ring.signed_from(B.key_id) == (first - settle, second + settle)
    assert ring.signed_from(C.key_id) == (second - settle, None)
    assert ring.signed_from("another") is None
    assert list(ring.may_have_signed(first - settle - 1)) == ids(A)
    assert list(ring.may_have_signed(first - settle)) == ids(B, A)
    assert list(ring.may_have_signed(first + settle)) == ids(B)
    assert list(ring.may_have_signed(second + settle)) == ids(C)


def test_a_single_key_file_is_a_ring_of_one() -> None:
    assert ring_found(A, None, None, NOW) == KeyRing(A)
    assert ring_found(A, B, None, NOW) == KeyRing(A, 0, NextKey(B))
    assert ring_found(A, A, None, NOW) == KeyRing(A), "a copy of the active key is no next one"


def test_a_restart_finds_what_was_kept() -> None:
    ring = KeyRing(B, NOW, NextKey(C, NOW + 5), (FormerKey(A, 0, NOW, NOW + 99),))
    assert ring_found(B, C, ring, NOW + 10) == ring
    assert ring_found(B, None, ring, NOW + 10) == ring.without_next()
    other = key()
    assert ring_found(B, other, ring, NOW).next == NextKey(other), "published is the key, not the place"


def test_a_crash_between_the_rename_and_the_keeping_of_the_ring_loses_no_key() -> None:
    kept = KeyRing(A, 0, NextKey(B, NOW))
    assert ring_found(B, None, kept, NOW + 400) == KeyRing(B, NOW + 400, None, (FormerKey(A, 0, NOW + 400),))


def test_a_key_that_was_put_in_place_by_hand_retires_the_one_before() -> None:
    kept = KeyRing(B, NOW, None, (FormerKey(A, 0, NOW),))
    found = ring_found(C, None, kept, NOW + 7)
    assert published(found) == ids(C, B, A)
    assert found.since == NOW + 7


def test_a_former_key_may_be_put_back_unless_it_was_taken_away() -> None:
    kept = KeyRing(B, NOW, None, (FormerKey(A, 3, NOW),))
    back = ring_found(A, None, kept, NOW + 7)
    assert back == KeyRing(A, 3, None, (FormerKey(B, NOW, NOW + 7),))
    gone = KeyRing(B, NOW, None, (FormerKey(A, 0, NOW, gone=NOW),))
    with pytest.raises(KeyRingError, match="was taken away"):
        ring_found(A, None, gone, NOW + 7)


def test_a_key_that_has_signed_is_no_next_key() -> None:
    with pytest.raises(KeyRingError, match="has signed before"):
        ring_found(B, A, KeyRing(B, NOW, None, (FormerKey(A, 0, NOW),)), NOW)


def test_the_text_of_a_ring_is_read_back() -> None:
    ring = KeyRing(
        B, NOW, NextKey(C, None), (FormerKey(A, 0, NOW, NOW + LEEWAY_SECONDS, NOW + 99), FormerKey(key(), 1, 2))
    )
    assert ring_from_text(ring_text(ring)) == ring
    assert ring_from_text(ring_text(KeyRing(A))) == KeyRing(A)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version":1}', "{" * 100_000])
def test_other_texts_are_no_ring(text: str) -> None:
    with pytest.raises(KeyRingError, match="is not a list of keys"):
        ring_from_text(text)


def test_a_ring_of_a_later_version_is_refused() -> None:
    with pytest.raises(KeyRingError, match="of version 2"):
        ring_from_text('{"version":2}')


def test_a_kid_that_is_not_the_keys_own_is_refused() -> None:
    document = json.loads(ring_text(KeyRing(A)))
    document["active"]["jwk"]["kid"] = B.key_id
    with pytest.raises(KeyRingError, match="is not a list of keys"):
        ring_from_text(json.dumps(document))
