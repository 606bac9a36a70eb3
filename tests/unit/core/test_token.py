import copy
import json
import pickle
from base64 import urlsafe_b64decode
from collections.abc import Callable
from hashlib import sha256

import pytest

from issuer.core.token import Token, compact_token, signing_input

SECRET = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"


def decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@pytest.mark.parametrize("shown", [repr, str, "{}".format, "{!r:>40}".format])
def test_never_shows_its_text(shown: Callable[[Token], str]) -> None:
    text = shown(Token(SECRET.encode()))
    assert not any(part in text for part in SECRET.split("."))


def test_reveals_its_text_when_asked_to() -> None:
    assert Token(SECRET.encode()).reveal() == SECRET


def test_hash_is_that_of_the_text() -> None:
    assert Token(SECRET.encode()).sha256 == sha256(SECRET.encode()).digest()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_is_not_pickled_or_copied(copied: Callable[[Token], object]) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        copied(Token(SECRET.encode()))


def test_text_is_not_found_among_its_attributes() -> None:
    token = Token(SECRET.encode())
    public = [getattr(token, name) for name in dir(token) if not name.startswith("_")]
    assert SECRET not in public


def test_header_has_exactly_type_algorithm_and_key() -> None:
    header, payload = signing_input("ES256", "kid-1", b'{"a":1}').decode().split(".")
    assert json.loads(decoded(header)) == {"typ": "at+jwt", "alg": "ES256", "kid": "kid-1"}
    assert decoded(payload) == b'{"a":1}'


def test_a_new_key_gets_a_header_of_its_own() -> None:
    assert signing_input("ES256", "kid-1", b"") != signing_input("ES256", "kid-2", b"")


def test_token_is_the_signing_input_a_dot_and_the_signature() -> None:
    assert compact_token(b"aGVhZGVy.cGF5bG9hZA", b"\xfb\xff").reveal() == "aGVhZGVy.cGF5bG9hZA.-_8"
