"""What passes between the issuer and its public HTTP process: JSON, one message a line, each small.

Down the child's standard input: one :class:`Setup`, then a :class:`State` whenever something changed; each is whole and
replaces the one before. Its end is the order to leave, so a child never outlives its parent. Down another pipe, where
nothing waits behind them: a :class:`ListShown` for each status list. Up the child's standard output: :class:`Report`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

MAX_LINE_BYTES = 48 * 1024
"""A Linux pipe holds 64 KiB: one message always fits into an empty one, so sending it never waits."""


class _Message:
    """A line of JSON."""

    def to_line(self) -> bytes:
        """Return the message with its newline."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"  # type: ignore[call-overload]

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read what :meth:`to_line` wrote; both ends are this program."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Setup(_Message):
    """What holds for the child's whole life.

    Attributes:
        listener: The descriptor of the listening socket, inherited.
        metadata: The discovery document, JSON.
        metadata_paths: Where it is served.
        jwks_paths: Where the key set is served.
        lists: The descriptor of the pipe of status lists, inherited.
        list_uri: What the URI of each status list begins with, the slash included.
        list_paths: Where the list of status lists is served; each of them is below.
        max_age: How long both may be cached, seconds.
        tls_certificate: Path of the chain; ``None`` for plain HTTP.
        tls_key: Path of the certificate's key.
    """

    listener: int
    metadata: str
    metadata_paths: list[str]
    jwks_paths: list[str]
    lists: int
    list_uri: str
    list_paths: list[str]
    max_age: int
    tls_certificate: str | None
    tls_key: str | None


@dataclass(frozen=True, slots=True)
class State(_Message):
    """What may change.

    Attributes:
        jwks: The key set, JSON.
        ready: Whether the issuer can issue.
        reason: Why not; shown by ``/readyz``.
    """

    jwks: str
    ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ListShown(_Message):
    """A status list that is shown from now on.

    Attributes:
        name: The last segment of its path.
        text: The signed list; empty for one that is shown no more.
        max_age: Seconds that it may be cached.
    """

    name: str
    text: str
    max_age: int


@dataclass(frozen=True, slots=True)
class Report(_Message):
    """What the child says.

    Attributes:
        kind: ``listening`` once it serves; ``failed`` when it cannot; ``log`` for its log.
        message: For people.
    """

    kind: Literal["listening", "failed", "log"]
    message: str
