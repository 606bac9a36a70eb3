"""base64url in its one spelling."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.verification.base64url import base64url, base64url_decoded

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize(("data", "text"), [(b"f", b"Zg"), (b"fo", b"Zm8"), (b"foo", b"Zm9v"), (b"\xfb\xff", b"-_8")])
def test_encodes_and_decodes(data: bytes, text: bytes) -> None:
    assert base64url(data) == text
    assert base64url_decoded(text) == data


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Z",
        b"Zg=",
        b"Zg==",
        b"Zm8=",
        b"Zh",  # a spare bit set
        b"Zm9",
        b"Zm9vY",
        b"Zm9v====",
        b"Zm9v=Zm9v",
        b"+/8",
        b"Z g",
        b" Zg",
        b"Zg\n",
        b"Zm\n8",
        b"Zm9v\r\nZg",
        b"Zm8!",
        b"Zm8.",
        b"Zm8\x00",
        b"\xff\xff",
    ],
)
def test_refuses_every_other_spelling(text: bytes) -> None:
    assert base64url_decoded(text) is None


@given(st.binary(min_size=1, max_size=200))
def test_decodes_what_it_encodes(data: bytes) -> None:
    assert base64url(data) == urlsafe_b64encode(data).rstrip(b"=")
    assert base64url_decoded(base64url(data)) == data


@given(st.text(alphabet=ALPHABET, min_size=1, max_size=12) | st.text(alphabet=ALPHABET + "+/= \n", max_size=12))
def test_takes_a_text_only_if_encoding_gives_it_back(text: str) -> None:
    data = base64url_decoded(text.encode())
    try:
        lenient = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        lenient = b""
    canonical = bool(text) and urlsafe_b64encode(lenient).rstrip(b"=").decode() == text
    assert data == (lenient if canonical else None)
