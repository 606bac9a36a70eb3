"""One HTTP/1.1 request, parsed strictly (RFC 9112). Pure. What is doubtful is refused: readers could differ on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 8 * 1024
"""What common servers take for a whole request head."""
MAX_HEADERS = 64
MAX_PARAMETERS = 4
HEAD_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]{1,16}) (?P<path>/[!->@-~]*)(?:\?(?P<query>[!-~]*))? HTTP/1\.1")
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[!-~](?:[ \t!-~]*[!-~])?)?[ \t]*")
"""RFC 9110 sections 5.1 and 5.5, without obsolete bytes above ASCII."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body.

    Attributes:
        method: As in ``GET``.
        path: Without the query, not decoded: no path of ours needs that.
        parameters: The query.
        headers: By name in lower case; none came twice.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]


class MalformedRequest(ValueError):
    """No request that is answered here. The message says why, without quoting it."""


def parse_request(head: bytes) -> Request:
    """Return the request that ``head`` is; it ends with an empty line.

    1. ASCII lines that end with CR LF, the first one a request line of HTTP/1.1.
    2. Header fields without folding, none of them twice, at most 64; ``Host`` among them (RFC 9112 section 3.2).
    3. No body: neither a length nor chunks.
    4. A query that decodes to UTF-8, no parameter twice, at most 4.

    Raises:
        MalformedRequest: It is not that.
    """
    try:
        lines = head.removesuffix(HEAD_END).decode("ascii").split("\r\n")  # 1
    except UnicodeDecodeError:
        raise MalformedRequest("the request has bytes that are not ASCII") from None
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise MalformedRequest("the first line is no request line of HTTP/1.1")
    headers = _headers(lines[1:])  # 2
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:  # 3
        raise MalformedRequest("the request has a body")
    return Request(match["method"], match["path"], _parameters(match["query"]), headers)  # 4


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise MalformedRequest("the request has too many header fields")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise MalformedRequest("a header field is malformed")
        name = match["name"].lower()
        if name in headers:
            raise MalformedRequest("a header field comes twice")
        headers[name] = match["value"] or ""
    if "host" not in headers:
        raise MalformedRequest("there is no Host")
    return headers


def _parameters(query: str | None) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequest("the query is malformed") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise MalformedRequest("a parameter comes twice")
    return parameters
