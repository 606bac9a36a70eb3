"""Whatever is presented as a token is taken apart or refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
from support.forging import encoded

from issuer.core.assertion import AssertionRefused
from issuer.oidc.signed_text import SignedText, read_signed_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HEADER = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "x5t", "jku", "crit"]), JSON)
PART = st.binary(max_size=40).map(encoded) | JSON.map(lambda value: encoded(json.dumps(value).encode()))


@given(st.text(max_size=80) | st.lists(PART, min_size=2, max_size=4).map(".".join))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with contextlib.suppress(AssertionRefused):
        assert isinstance(read_signed_text(text), SignedText)


@given(HEADER, st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_what_is_read_is_what_was_written(header: dict[str, object], claims: dict[str, object]) -> None:
    text = ".".join(encoded(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), b"signature"))
    try:
        token = read_signed_text(text)
    except AssertionRefused:
        return
    assert (token.algorithm, token.key_id, token.claims) == (header["alg"], header["kid"], claims)
    assert header.keys() <= {"alg", "kid", "typ", "x5t"}
    assert token.signing_input.decode() == text.rpartition(".")[0]
    assert repr(token) == "SignedText()"
