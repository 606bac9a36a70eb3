"""Which tokens are given out, as a command line or a file says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_client.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_TOKENS = 256
"""What one batch of the issuer holds; each costs a renewal every few minutes."""
_TYPES: dict[str, type] = {
    "audience": str,
    "scopes": list,
    "ttl": str,
    "application": str,
    "bind": bool,
    "allow_partial": bool,
}


class UnusableTokens(ValueError):
    """What is asked for cannot be used. The message says where and why."""


@dataclass(frozen=True, slots=True)
class WantedToken:
    """One token, kept for whoever asks for its audience."""

    audience: str
    scopes: tuple[str, ...]
    ttl: str | None = None
    application: str | None = None
    bind: bool = False
    allow_partial: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``tokens_for``."""
        return {
            "audience": self.audience,
            "scopes": self.scopes,
            "ttl": None if self.ttl is None else parse_duration(self.ttl),
            "application": self.application,
            "bind_certificate": self.bind,
            "allow_partial": self.allow_partial,
        }


def wanted_tokens(told: Sequence[str], file: Path | None) -> tuple[WantedToken, ...]:
    """Return the tokens of a command line and a file, at least one, each of another audience.

    Args:
        told: Each an audience and its scopes, with spaces between: neither can have one (RFC 6749 section 3.3).
        file: TOML with a table ``[[token]]`` for each.

    Raises:
        UnusableTokens: They are not that.
    """
    tokens = [_told(text) for text in told]
    if file is not None:
        tokens += _in_file(file)
    audiences = [token.audience for token in tokens]
    if not tokens:
        raise UnusableTokens("there is no token to give out: name one with --token or --config")
    if len(tokens) > MAX_TOKENS:
        raise UnusableTokens(f"there are {len(tokens)} tokens; more than {MAX_TOKENS} are not kept by one process")
    if twice := next((audience for audience in audiences if audiences.count(audience) > 1), None):
        raise UnusableTokens(f"there are two tokens for {twice!r}: who asks for it could not tell them apart")
    return tuple(tokens)


def _told(text: str) -> WantedToken:
    words = text.split()
    if len(words) < 2:  # noqa: PLR2004 - an audience, and at least one scope
        raise UnusableTokens(f"{text!r}: write the audience and its scopes, as in 'https://api.example read write'")
    return WantedToken(words[0], tuple(words[1:]))


def _in_file(file: Path) -> list[WantedToken]:
    try:
        with file.open("rb") as opened:
            document = tomllib.load(opened)
    except OSError as error:
        raise UnusableTokens(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML, and of UTF-8
        raise UnusableTokens(f"{file} is no TOML: {error}") from error
    tables = document.pop("token", [])
    if document or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UnusableTokens(f"{file}: it holds tables [[token]] and nothing else")
    return [_table(file, number, table) for number, table in enumerate(tables, 1)]


def _table(file: Path, number: int, table: dict[str, Any]) -> WantedToken:
    where = f"{file}, token {number}"
    for name, value in table.items():
        if name not in _TYPES:
            raise UnusableTokens(f"{where}: {name!r} is none of {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[name]):
            raise UnusableTokens(f"{where}: {name} is no {_TYPES[name].__name__}")
    scopes = table.get("scopes", [])
    if not table.get("audience") or not scopes or not all(isinstance(scope, str) and scope for scope in scopes):
        raise UnusableTokens(f"{where}: it needs an audience and a list of scopes")
    token = WantedToken(**{**table, "scopes": tuple(scopes)})
    try:
        token.arguments()
    except ValueError as error:
        raise UnusableTokens(f"{where}: ttl: {error}") from error
    return token
