"""Finding and decoding a token in text of any of our forms. Nothing here is verified."""

from __future__ import annotations

import base64
import json
import re
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.cli.messages import tell

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

MAX_TEXT_BYTES = 64 * 1024
"""Four times the largest token (token_checks.MAX_TOKEN_BYTES): room for the JSON around one."""
_LAST_MOMENT = 253402300799  # 9999-12-31T23:59:59Z; arithmetic with more may overflow
_TOKEN = re.compile(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_HEADER = re.compile(r"(?:authorization:\s*)?bearer\s+(?P<token>\S+)", re.IGNORECASE)
_EXPORT = re.compile(r"export [A-Za-z_][A-Za-z0-9_]*='?(?P<token>[^\s']+)'?")


@dataclass(frozen=True, slots=True)
class DecodedToken:
    """A token as it is written; anybody may have written it. It does not print its text.

    Attributes:
        text: The token.
        header: The JOSE header; empty when it cannot be read.
        claims: The claims; empty when they cannot be read.
    """

    text: str = field(repr=False)
    header: dict[str, Any]
    claims: dict[str, Any]


def read_text(file: Path | None) -> str:
    """Return the text of a file, or of standard input where there is none, less the space around it.

    Raises:
        CommandFailed: It cannot be read, is empty, or is larger than any token.
    """
    try:
        if file is not None:
            with file.open("rb") as opened:
                read = opened.read(MAX_TEXT_BYTES + 1)
        else:
            if sys.stdin.isatty():
                tell("note", "paste the token, then press Enter and Ctrl-D")
            read = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"{file or 'standard input'} cannot be read: {error.strerror}") from error
    if len(read) > MAX_TEXT_BYTES:
        raise CommandFailed(ExitCode.USAGE, f"that is no token: it is larger than {MAX_TEXT_BYTES} bytes")
    text = read.decode("utf-8", "replace").strip()
    if not text:
        raise CommandFailed(ExitCode.USAGE, f"there is no token: {file or 'standard input'} is empty")
    return text


def token_in(text: str) -> str:
    """Return the token in ``text``: alone, in a header, in the JSON of ``get`` or in a line for a shell.

    Text that is none of these is returned as it is, less the space around it.
    """
    text = text.strip()
    if text.startswith("{"):
        return _in_json(text)
    for form in (_HEADER, _EXPORT):
        if match := form.fullmatch(text):
            return match["token"]
    return text


def decode(text: str) -> DecodedToken:
    """Return the parts of a token, as far as they can be read."""
    if not _TOKEN.fullmatch(text):
        return DecodedToken(text, {}, {})
    header, claims, _ = text.split(".")
    return DecodedToken(text, _json_part(header), _json_part(claims))


def has_expired(path: Path, now: datetime) -> bool:
    """Say whether a file holds a token whose ``exp`` is over. False for whatever cannot be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            text = file.read(MAX_TEXT_BYTES).decode()
    except (OSError, ValueError):
        return False
    expires_at = seconds(decode(token_in(text)).claims, "exp")
    return expires_at is not None and expires_at <= now.timestamp()


def seconds(claims: dict[str, Any], name: str) -> int | None:
    """Return a claim that is a time in whole seconds; ``None`` when it is not, or is beyond what a calendar has."""
    value = claims.get(name)
    is_time = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_MOMENT
    return value if is_time else None


def _in_json(text: str) -> str:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for holder in (document, document.get("status")):
        if isinstance(holder, dict):
            for name in ("access_token", "token"):
                if isinstance(holder.get(name), str):
                    return str(holder[name])
    return text


def _json_part(part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        json.dumps(value, allow_nan=False)  # what cannot be written as JSON again was none
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
