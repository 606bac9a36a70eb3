"""One GET of one small document, bounded in time and size, whoever answers.

The standard library's client has a timeout for each read: a server that sends a byte at a time holds it for hours. Here
every read gets what is left of one deadline. Only the resolver cannot be bounded: its own configuration is.

Proxies of the environment are not used, and no redirect is followed: whoever may redirect could choose the keys.
"""

from __future__ import annotations

import io
import re
import socket
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, urlsplit

from agent_client.loopback import is_loopback
from agent_client.verification.strict_json import strict_object

if TYPE_CHECKING:
    import ssl

    from _typeshed import WriteableBuffer

MAX_DOCUMENT_BYTES = 256 * 1024
"""A full set of 64 large RSA keys has 80 KiB; with certificates in it, some more."""
MAX_URL_CHARACTERS = 2048
_MAX_ADDRESSES = 4
"""Of one host name. They share what is left of the deadline, so that the first cannot eat it."""
_URL = re.compile(r"[\x21-\x7e]+")
_OK = 200
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,10})", re.IGNORECASE)  # RFC 9111 section 5.2.2.1
_NOT_TO_BE_KEPT = re.compile(r"(?:^|[\s,])no-(?:store|cache)\b", re.IGNORECASE)


class FetchFault(Exception):
    """Nothing usable came. The message names the URL.

    Attributes:
        status: The HTTP status, where there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, not read yet.

    Attributes:
        body: Its content, at most :data:`MAX_DOCUMENT_BYTES`.
        media_type: Its ``Content-Type`` in lower case, without parameters; empty where it has none.
        max_age: Seconds that it may be kept; ``None`` when the answer does not say.
        date: The answer's ``Date``, as it was written; ``None`` when it has none.
    """

    body: bytes
    media_type: str
    max_age: float | None
    date: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """What came.

    Attributes:
        members: The JSON object.
        max_age: Seconds that it may be kept; ``None`` when the answer does not say.
        date: The answer's ``Date``, as it was written; ``None`` when it has none.
    """

    members: dict[str, Any]
    max_age: float | None
    date: str | None = None


def checked_url(text: str) -> SplitResult:
    """Return the parts of a URL that may be fetched: https, or http on loopback.

    Raises:
        ValueError: It is not one. The message does not repeat it.
    """
    if not _URL.fullmatch(text) or len(text) > MAX_URL_CHARACTERS:
        raise ValueError("is no URL of printable ASCII characters")
    try:
        url = urlsplit(text)
        host = url.hostname if url.port != 0 and url.username is None and "#" not in text else None
    except ValueError:  # brackets that do not match, or a port that is no number
        host = None
    if not host:
        raise ValueError("is no URL of a host, with neither user nor fragment")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ValueError("is not https, and http is for loopback only")
    return url


def fetch_object(text: str, context: ssl.SSLContext, end: float) -> Document:
    """Fetch the JSON object at a URL.

    Args:
        text: The URL.
        context: For https: whom to trust.
        end: When to give up, on the clock of :func:`time.monotonic`.

    Raises:
        FetchFault: The URL is not allowed, nothing answers in time, or the answer is not a small strict JSON object.
    """
    answer = fetch(text, "application/json", context, end)
    members = strict_object(answer.body)
    if members is None:
        raise FetchFault(f"{text}: answered what is no strict JSON object")
    return Document(members, answer.max_age, answer.date)


def fetch(text: str, accept: str, context: ssl.SSLContext, end: float) -> Answer:
    """Fetch what is at a URL.

    Args:
        text: The URL.
        accept: The media type that is asked for. That the answer has it is for the caller to look.
        context: For https: whom to trust.
        end: When to give up, on the clock of :func:`time.monotonic`.

    Raises:
        FetchFault: The URL is not allowed, nothing answers in time, or the answer is not 200, or not small.
    """
    try:
        url = checked_url(text)
    except ValueError as error:
        raise FetchFault(f"{text[:MAX_URL_CHARACTERS]!r} {error}") from None
    try:
        with _connect(url, context, end) as connection:
            return _ask(url, accept, connection, end)
    except FetchFault as fault:
        raise FetchFault(f"{text}: {fault}", status=fault.status) from None
    except (OSError, HTTPException) as error:
        raise FetchFault(f"{text}: {str(error) or type(error).__name__}") from error


def _connect(url: SplitResult, context: ssl.SSLContext, end: float) -> socket.socket:
    host, port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:_MAX_ADDRESSES]
    fault: OSError = OSError("the host has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_left(end) / (len(addresses) - position))
            plain.connect(address)
            plain.settimeout(_left(end))
            return context.wrap_socket(plain, server_hostname=host) if url.scheme == "https" else plain
        except OSError as error:
            plain.close()
            fault = error
    raise fault


def _ask(url: SplitResult, accept: str, connection: socket.socket, end: float) -> Answer:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.settimeout(_left(end))
    connection.sendall(
        f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: {accept}\r\n"
        "Accept-Encoding: identity\r\nUser-Agent: spiffe-issuer\r\nConnection: close\r\n\r\n".encode("ascii")
    )
    with HTTPResponse(cast("socket.socket", _DeadlineSocket(connection, end)), method="GET") as response:
        response.begin()
        if response.status != _OK:
            raise FetchFault(f"answered {response.status}, not 200", status=response.status)
        body = response.read(MAX_DOCUMENT_BYTES + 1)
        cache_control, date = response.getheader("Cache-Control", ""), response.getheader("Date")
        media_type = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
    if len(body) > MAX_DOCUMENT_BYTES:
        raise FetchFault(f"answered more than {MAX_DOCUMENT_BYTES} bytes")
    return Answer(body, media_type, max_age_of(cache_control), date)


def max_age_of(cache_control: str) -> float | None:
    """Return the seconds of ``max-age``, zero for what must not be kept, ``None`` where neither is said."""
    if _NOT_TO_BE_KEPT.search(cache_control):
        return 0.0
    found = _MAX_AGE.search(cache_control)
    return float(found[1]) if found else None


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    return left


class _DeadlineSocket:
    """As much of a socket as an HTTP response reads from."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._reader = _DeadlineReader(connection, end)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _DeadlineReader(io.RawIOBase):
    """Reads with what is left of the deadline, each time."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection = connection
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._connection.settimeout(_left(self._end))
        return self._connection.recv_into(buffer)
