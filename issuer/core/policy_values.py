"""The values of policy files, from text: durations, instants, names. Every function raises ValueError with the remedy.

Equal texts give the same object, so that 100,000 grants share their few hundred distinct values.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.duration import parse_duration
from issuer.core.errors import InvalidTokenRequest
from issuer.core.index import ANY_AUDIENCE
from issuer.core.patterns import Shape, WorkloadPattern, parse_pattern
from issuer.core.token_request import MAX_TTL, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ID_CHARACTERS: Final = 128
MAX_OWNER_CHARACTERS: Final = 256
MAX_DESCRIPTION_CHARACTERS: Final = 4096

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})")
_DAY: Final = timedelta(days=1)

T = TypeVar("T")


def rule_id(text: str) -> str:
    """Return the id of a rule: it appears in every record, so it is short and has no spaces."""
    if len(text) > MAX_ID_CHARACTERS or not _ID.fullmatch(text):
        raise ValueError(
            f"an id is 1 to {MAX_ID_CHARACTERS} letters, digits, '.', '_', '-' and '/', first a letter or digit"
        )
    return text


def owner(text: str) -> str:
    """Return who answers for a rule: a team, an address, a ticket queue."""
    if len(text) > MAX_OWNER_CHARACTERS:
        raise ValueError(f"an owner has at most {MAX_OWNER_CHARACTERS} characters")
    return text


def description(text: str) -> str:
    """Return a text for people."""
    if len(text) > MAX_DESCRIPTION_CHARACTERS:
        raise ValueError(f"a description has at most {MAX_DESCRIPTION_CHARACTERS} characters")
    return text


def ttl(text: str) -> timedelta:
    """Return a lifetime of at least a second."""
    duration = parse_duration(text)
    if not timedelta(0) < duration <= MAX_TTL:
        raise ValueError(f"a lifetime is at least 1s and at most {MAX_TTL.days}d")
    return duration


def not_before(text: str) -> datetime:
    """Return the first moment of a day (UTC), or the moment that is written."""
    return _day(text) if _DATE.fullmatch(text) else _instant(text)


def expires(text: str) -> datetime:
    """Return the first moment after a day (UTC), which so is the last one included, or the moment that is written."""
    if not _DATE.fullmatch(text):
        return _instant(text)
    try:
        return _day(text) + _DAY
    except OverflowError as error:
        raise ValueError("there is no day after this one") from error


def _day(text: str) -> datetime:
    day = date.fromisoformat(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise ValueError("write a day as in 2027-06-30, or a moment with its zone as in 2027-06-30T12:00:00Z")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the moment lies outside of the years 1 to 9999 in UTC") from error


def audience(text: str) -> str:
    """Return the name of an audience: one that a request can name."""
    _check_requestable(audience=text)
    if text == ANY_AUDIENCE:
        raise ValueError(f"{ANY_AUDIENCE!r} is no audience: prohibitions use it for all of them")
    return text


def scope(text: str) -> str:
    """Return the name of a scope: one that a request can name."""
    _check_requestable(scope=text)
    return text


def application(text: str) -> str:
    """Return the name of an application: one that a request can name."""
    _check_requestable(application=text)
    return text


def _check_requestable(audience: str = "a", scope: str = "s", application: str = "a") -> None:
    """Leave the syntax of these names to the one place that knows it."""
    try:
        TokenRequest(audience=audience, scopes=(scope,), application=application)
    except InvalidTokenRequest as error:
        raise ValueError("; ".join(violation.description for violation in error.violations)) from error


def remembering(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Return ``convert``, a function of its text alone, with a memory."""
    values: dict[str, T] = {}

    def remembered(text: str) -> T:
        if (value := values.get(text)) is None:
            value = values[text] = convert(text)
        return value

    return remembered


def _patterns_of_shared_shapes() -> Callable[[str], WorkloadPattern]:
    shapes: dict[Shape, Shape] = {}

    def pattern(text: str) -> WorkloadPattern:
        parsed = parse_pattern(text)
        return WorkloadPattern(parsed.text, shapes.setdefault(parsed.shape, parsed.shape))

    return pattern


class SharedValues:
    """Conversions that remember, for the time of one load. No converted value is ``None``.

    Nothing here refers to itself: what was made by a load goes with its last reference, for nobody looks for cycles in
    it (:func:`issuer.garbage_collection.keeping`).
    """

    def __init__(self) -> None:
        self._scope_sets: dict[frozenset[str], frozenset[str]] = {}
        self.application = remembering(application)
        self.audience = remembering(audience)
        self.description = remembering(description)
        self.expires = remembering(expires)
        self.not_before = remembering(not_before)
        self.owner = remembering(owner)
        self.pattern = remembering(_patterns_of_shared_shapes())
        self.scope = remembering(scope)
        self.ttl = remembering(ttl)

    def scope_set(self, scopes: frozenset[str]) -> frozenset[str]:
        """Return the same set for equal sets."""
        return self._scope_sets.setdefault(scopes, scopes)
