import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.base64url import base64url, base64url_bytes


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (b"", ""),
        (bytes([3, 236, 255, 224, 193]), "A-z_4ME"),  # RFC 7515 appendix C
        (b"\xfb\xef\xff", "--__"),
    ],
)
def test_encodes_without_padding_in_the_url_alphabet(data: bytes, encoded: str) -> None:
    assert base64url(data) == encoded


@given(st.binary())
def test_agrees_with_the_standard_library(data: bytes) -> None:
    assert base64url_bytes(data) == base64.urlsafe_b64encode(data).rstrip(b"=")
