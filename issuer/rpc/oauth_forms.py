"""What a resource server or a holder posts: forms of RFC 7662 section 2.1 and RFC 7009 section 2.1, strictly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FORM_BYTES: Final = 32 * 1024
"""A token has at most 16 KiB (``messages.MAX_TOKEN``), none of which a form needs to escape; the rest is small."""
MAX_FIELDS: Final = 16
"""The standards know four."""
_FORM: Final = b"application/x-www-form-urlencoded"
_OTHER_PROOFS: Final = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


@dataclass(frozen=True, slots=True)
class FormRefused(Exception):
    """What was posted is refused.

    Attributes:
        status: Of the HTTP answer.
        error: A code of RFC 6749 section 5.2.
        description: For people; nothing of the request is in it.
    """

    status: int
    error: str
    description: str


def check_head(scope: Mapping[str, Any]) -> None:
    """Refuse a request whose body need not be read.

    Args:
        scope: The request, as ASGI describes it.

    Raises:
        FormRefused: It is no POST of a form, or says who calls by other means than its certificate.
    """
    if scope["method"] != "POST":
        raise FormRefused(405, "invalid_request", "only POST is taken")
    if scope["query_string"]:
        # What is in a URL gets into logs: RFC 7662 section 4 wants tokens in the body.
        raise FormRefused(400, "invalid_request", "parameters belong in the body, not in the URL")
    if _values(scope["headers"], b"authorization"):
        raise _other_proof()
    content_types = _values(scope["headers"], b"content-type")
    if len(content_types) != 1 or content_types[0].partition(b";")[0].strip().lower() != _FORM:
        raise FormRefused(415, "invalid_request", f"the body must be of type {_FORM.decode()}")


def too_large() -> FormRefused:
    """Return the refusal of a body with more than ``MAX_FORM_BYTES``."""
    return FormRefused(413, "invalid_request", f"the body is larger than {MAX_FORM_BYTES} bytes")


def read_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form; ``token`` is among them.

    Raises:
        FormRefused: It is none, a field is there twice (RFC 6749 section 3.2), there is no token, or it says who calls.
    """
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise FormRefused(400, "invalid_request", "the body is not a form") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise FormRefused(400, "invalid_request", "a parameter is there twice")
    if not form.get("token"):
        raise FormRefused(400, "invalid_request", "the parameter token is missing")
    if form.keys() & _OTHER_PROOFS:
        raise _other_proof()
    return form


def _other_proof() -> FormRefused:
    # RFC 6749 section 2.3: no more than one way to authenticate in a request.
    return FormRefused(401, "invalid_client", "callers are known by their certificate alone (tls_client_auth)")


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
