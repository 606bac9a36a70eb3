"""How values of settings are read, whichever section they are in."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo

from issuer.core.duration import parse_duration
from issuer.core.errors import IssuerError
from issuer.core.patterns import PatternError, WorkloadPattern, parse_pattern
from issuer.core.spiffe_id import SpiffeId, TrustDomain

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")


def _duration(value: object) -> object:
    if isinstance(value, str) and (
        milliseconds := re.fullmatch(r"([0-9]{1,9})ms", value)
    ):  # what policy has no use for
        return timedelta(milliseconds=int(milliseconds[1]))
    return parse_duration(value) if isinstance(value, str) else value


def _spiffe_id(value: object) -> object:
    return parsed(SpiffeId.parse, value)


def _trust_domain(value: object) -> object:
    return parsed(TrustDomain.parse, value)


def parsed(parse: Any, value: object) -> object:  # noqa: ANN401
    """Return what a text spells.

    Raises:
        ValueError: It spells nothing of that kind.
    """
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except IssuerError as error:
        raise ValueError(error.message) from None


def _pattern(value: object) -> object:
    try:
        return parse_pattern(value) if isinstance(value, str) else value
    except PatternError as error:
        raise ValueError(error.message) from None


def _file(value: object, info: ValidationInfo) -> object:
    """Resolve a path against the folder of the configuration file."""
    return info.context / value if isinstance(value, str) and isinstance(info.context, Path) else value


def _file_or_stdout(value: object, info: ValidationInfo) -> object:
    return value if value == "-" else str(_file(value, info)) if isinstance(value, str) else value


def outside_url(url: str) -> str:
    """Return the URL of something that the issuer speaks to, which plain HTTP must not reach over a network.

    Raises:
        ValueError: It would, or is none.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        raise ValueError("must be an https URL (http only for a loopback address)")
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("must be a URL with a host and without user, query and fragment")
    return url


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
FilePath = Annotated[Path, BeforeValidator(_file)]
Listen = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]
Identity = Annotated[SpiffeId, BeforeValidator(_spiffe_id)]
Domain = Annotated[TrustDomain, BeforeValidator(_trust_domain)]
Pattern = Annotated[WorkloadPattern, BeforeValidator(_pattern)]
FileOrStdout = Annotated[str, BeforeValidator(_file_or_stdout)]
