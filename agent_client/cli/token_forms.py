"""The forms in which a token is handed to other programs. Pure: each takes what it needs and returns text."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from agent_client import IssuedToken

DEFAULT_VARIABLE = "ACCESS_TOKEN"
KUBERNETES_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
"""The newest first: it is the one for who does not say."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX XBD 3.230, with lower case, which shells take too


class FileForm(StrEnum):
    """What a file, or standard output, can hold."""

    RAW = "raw"
    JSON = "json"
    HEADER = "header"


def in_form(form: FileForm, issued: IssuedToken, now: datetime) -> str:
    """Return a token in one of the forms of files."""
    if form is FileForm.RAW:
        return issued.token.reveal()
    if form is FileForm.HEADER:
        return header(issued)
    return as_json(issued, now)


def header(issued: IssuedToken) -> str:
    """Return the header of a request, for ``curl -H @FILE`` and the like (RFC 6750 section 2.1)."""
    return f"Authorization: {issued.token_type} {issued.token.reveal()}"


def as_json(issued: IssuedToken, now: datetime) -> str:
    """Return all that is known of a token; the names of RFC 6749 section 5.1 mean what they mean there."""
    return json.dumps(
        {
            "access_token": issued.token.reveal(),
            "token_type": issued.token_type,
            "expires_in": seconds_left(issued, now),
            "expires_at": issued.expires_at.isoformat(),
            "renew_at": issued.renew_at.isoformat(),
            "scope": " ".join(issued.scopes),
            "refused_scopes": list(issued.refused_scopes),
            "token_id": issued.token_id,
            "decision_id": issued.decision_id,
            "application": issued.application,
        },
        indent=2,
    )


def seconds_left(issued: IssuedToken, now: datetime) -> int:
    """Return how many whole seconds a token has left: at least 0, and by no clock more than it lives."""
    return max(int(min(issued.expires_at - now, issued.expires_at - issued.issued_at).total_seconds()), 0)


def shell_export(issued: IssuedToken, variable: str) -> str:
    """Return a line for ``eval`` in a POSIX shell. ``variable`` was checked by :func:`checked_variable`."""
    return f"export {variable}={shlex.quote(issued.token.reveal())}"


def checked_variable(name: str) -> str:
    """Return the name of a variable.

    Raises:
        ValueError: No shell would take it.
    """
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a variable: letters, digits and _, the first no digit")
    return name


def kubernetes_version(exec_info: str | None) -> str:
    """Return the ``apiVersion`` that the asking program understands.

    Args:
        exec_info: What ``KUBERNETES_EXEC_INFO`` holds; nothing else of it is looked at.

    Raises:
        ValueError: It is no ExecCredential, or of a version that is not known here.
    """
    if exec_info is None:
        return KUBERNETES_VERSIONS[0]
    try:
        asked = json.loads(exec_info)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or asked.get("kind") != "ExecCredential":
        raise ValueError("KUBERNETES_EXEC_INFO holds no ExecCredential")
    if asked.get("apiVersion") not in KUBERNETES_VERSIONS:
        raise ValueError(f"KUBERNETES_EXEC_INFO asks for another version than {' or '.join(KUBERNETES_VERSIONS)}")
    return str(asked["apiVersion"])


def kubernetes_credential(issued: IssuedToken, version: str) -> str:
    """Return an ExecCredential, for a kubeconfig's ``exec`` plugin."""
    expires_at = issued.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # RFC 3339, whole seconds, as asked
    status = {"token": issued.token.reveal(), "expirationTimestamp": expires_at}
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}, indent=2)
