"""Forms of the OAuth endpoints: what is read, and what is refused before anybody looks at a token."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.rpc.oauth_forms import MAX_FIELDS, FormRefused, check_head, read_form

FORM = (b"content-type", b"application/x-www-form-urlencoded")


def head(*headers: tuple[bytes, bytes], method: str = "POST", query: bytes = b"") -> dict[str, Any]:
    return {"method": method, "query_string": query, "headers": list(headers)}


@pytest.mark.parametrize("media_type", [b"Application/X-WWW-Form-Urlencoded", FORM[1] + b"; charset=UTF-8"])
def test_a_form_is_a_form_however_its_type_is_spelled(media_type: bytes) -> None:
    check_head(head((b"content-type", media_type)))


@pytest.mark.parametrize(
    ("scope", "status", "error"),
    [
        (head(FORM, method="GET"), 405, "invalid_request"),
        (head(FORM, query=b"token=x"), 400, "invalid_request"),
        (head(FORM, (b"authorization", b"Basic x")), 401, "invalid_client"),
        (head(), 415, "invalid_request"),
        (head(FORM, FORM), 415, "invalid_request"),
        (head((b"content-type", b"application/json")), 415, "invalid_request"),
        (head((b"content-type", FORM[1] + b"x")), 415, "invalid_request"),
    ],
)
def test_what_is_no_post_of_a_form_is_refused(scope: dict[str, Any], status: int, error: str) -> None:
    with pytest.raises(FormRefused) as refused:
        check_head(scope)
    assert (refused.value.status, refused.value.error) == (status, error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"token",
        b"token=",
        b"hint=x",
        b"token=x&token=y",
        b"token=x&a=1&a=1",
        b"token=x&&a=1",
        b"token=%FF",
        b"token=\xc3\xa9",
        b"&".join(b"f%d=1" % number for number in range(MAX_FIELDS)) + b"&token=x",
    ],
)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(FormRefused) as refused:
        read_form(body)
    assert (refused.value.status, refused.value.error) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["client_secret", "client_assertion", "client_assertion_type"])
def test_another_way_to_say_who_calls_is_refused(name: str) -> None:
    with pytest.raises(FormRefused) as refused:
        read_form(urlencode({"token": "x", name: "y"}).encode())
    assert (refused.value.status, refused.value.error) == (401, "invalid_client")


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=MAX_FIELDS - 1), st.text(min_size=1))
def test_what_is_urlencoded_reads_as_it_was(others: dict[str, str], token: str) -> None:
    form = {"p" + name: value for name, value in others.items()} | {"token": token}
    try:
        body = urlencode(form).encode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert read_form(body) == form


@given(st.binary(max_size=200))
def test_whatever_is_posted_is_read_or_refused(body: bytes) -> None:
    try:
        form = read_form(body)
    except FormRefused:
        return
    assert form["token"]
