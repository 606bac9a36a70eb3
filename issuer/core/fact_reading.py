"""From what a feeder said to a :class:`~issuer.core.facts.Fact`; what is undeclared, wrongly typed or late is refused.

A document of a fact, from YAML, JSON or a message::

    type: posture                       # declared by the policy
    subject: spiffe://prod.example/ns/payments/sa/settler
    values: {status: healthy, score: 3}
    observed: 2026-06-01T12:00:00Z      # when it was true; now, when left out
    expires: 2026-06-01T12:10:00Z       # optional: earlier than the type's `max_age` would end it
    caller: spiffe://...                # both required where the caller chooses the subject
    audience: https://ledger.example
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from issuer.core.duration import parse_duration
from issuer.core.facts import (
    CHOSEN_BY_CALLER,
    MAX_CLOCK_SKEW,
    MAX_LIST_ITEMS,
    MAX_STRING_BYTES,
    MAX_SUBJECT_BYTES,
    Fact,
    FactValue,
    FieldType,
    SubjectKind,
)
from issuer.core.nearest import nearest
from issuer.core.policy_faults import quoted
from issuer.core.spiffe_id import SpiffeId, SpiffeIdError, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.facts import FactType

KEYS: Final = ("type", "subject", "values", "observed", "expires", "caller", "audience")
_MAX_INT: Final = 2**63  # CEL's int has 64 bits

S = TypeVar("S")
T = TypeVar("T")


class FactRefused(ValueError):
    """A feeder said what cannot be a fact. ``field`` names the part of its document, as in ``values.score``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


def fact_from_document(document: object, fact_types: Mapping[str, FactType], *, source: str, now: datetime) -> Fact:
    """Return the fact that a document spells.

    Args:
        document: See the module's docstring. Times are RFC 3339 text or timezone-aware datetimes, durations text as in
            policy or timedeltas.
        fact_types: What the policy in force declares.
        source: Who says it, for the record.
        now: UTC.

    Raises:
        FactRefused: When it is malformed, not declared, of another type, from the future, or over already.
    """
    if not isinstance(document, Mapping):
        raise FactRefused("", "a fact is a mapping with 'type', 'subject' and 'values'")
    for key in document:
        if key not in KEYS:
            raise FactRefused(str(key)[:MAX_STRING_BYTES], f"is not a part of a fact{nearest(str(key), KEYS)}")
    fact_type = _declared(document, fact_types)
    observed = _moment(document, "observed") or now
    if observed > now + MAX_CLOCK_SKEW:
        raise FactRefused("observed", "lies in the future")
    ends = observed + fact_type.max_age
    expires = min(ends, _moment(document, "expires") or ends)
    if expires <= now:
        raise FactRefused("expires" if "expires" in document else "observed", "the fact has ended already")
    caller, audience = _bound_to(document, fact_type)
    return Fact(
        type=fact_type.name,
        subject=_subject(document, fact_type.subject),
        values=_values(document, fact_type),
        source=source,
        observed_at=observed,
        expires_at=expires,
        caller=caller,
        audience=audience,
    )


def _declared(document: Mapping[str, object], fact_types: Mapping[str, FactType]) -> FactType:
    name = _text(document, "type")
    if name not in fact_types:
        raise FactRefused("type", f"policy declares no fact {quoted(name)}{nearest(name, fact_types)}")
    return fact_types[name]


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise FactRefused(key, "is required, as text")
    if _converted(value, key, _size) > MAX_SUBJECT_BYTES:
        raise FactRefused(key, f"is longer than {MAX_SUBJECT_BYTES} bytes")
    return value


def _subject(document: Mapping[str, object], kind: SubjectKind) -> str:
    subject = _text(document, "subject")
    try:
        if kind is SubjectKind.CALLER:
            SpiffeId.parse(subject)
        elif kind is SubjectKind.TRUST_DOMAIN:
            TrustDomain.parse(subject)
    except SpiffeIdError as error:
        raise FactRefused("subject", error.message) from None
    return subject


def _bound_to(document: Mapping[str, object], fact_type: FactType) -> tuple[str | None, str | None]:
    """Return the caller and the audience that the fact names; see :data:`~issuer.core.facts.CHOSEN_BY_CALLER`."""
    if fact_type.subject not in CHOSEN_BY_CALLER and "caller" not in document and "audience" not in document:
        return None, None
    if fact_type.subject not in CHOSEN_BY_CALLER:
        field = "caller" if "caller" in document else "audience"
        raise FactRefused(field, "is only for facts about what callers choose")
    caller = _text(document, "caller")
    try:
        SpiffeId.parse(caller)
    except SpiffeIdError as error:
        raise FactRefused("caller", error.message) from None
    return caller, _text(document, "audience")


def _moment(document: Mapping[str, object], key: str) -> datetime | None:
    value = document.get(key)
    return None if value is None else _converted(value, key, _as_moment)


def _values(document: Mapping[str, object], fact_type: FactType) -> dict[str, FactValue]:
    values = document.get("values")
    if not isinstance(values, Mapping) or not values:
        raise FactRefused("values", "is required: a mapping of at least one field to its value")
    read: dict[str, FactValue] = {}
    for name, value in values.items():
        field = f"values.{str(name)[:MAX_STRING_BYTES]}"
        if name not in fact_type.fields:
            known = nearest(str(name), fact_type.fields)
            raise FactRefused(field, f"the fact {fact_type.name!r} declares no such field{known}")
        read[name] = _converted(value, field, _CONVERT[fact_type.fields[name]])
    return read


def _converted(value: S, field: str, convert: Callable[[S], T]) -> T:
    try:
        return convert(value)
    except (ValueError, OverflowError) as error:
        raise FactRefused(field, str(error)) from None


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no engine or record can hold
        raise ValueError("is not Unicode text") from None


def _as_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - a fault of the feeder's data, not of this program
    return value


def _as_int(value: object) -> int:
    # JSON has one kind of number, and protobuf's Struct only doubles: 3.0 is three there.
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int) or not -_MAX_INT <= whole < _MAX_INT:
        raise ValueError("must be a whole number of at most 64 bits")
    return whole


def _as_double(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value)


def _as_string(value: object) -> str:
    if not isinstance(value, str) or _size(value) > MAX_STRING_BYTES:
        raise ValueError(f"must be text of at most {MAX_STRING_BYTES} bytes")
    return value


def _as_moment(value: object) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("must be a moment with its zone, as in 2026-06-01T12:00:00Z")
    return moment.astimezone(UTC)


def _as_duration(value: object) -> timedelta:
    duration = parse_duration(value) if isinstance(value, str) else value
    if not isinstance(duration, timedelta):
        raise ValueError("must be a duration, as in 90s")  # noqa: TRY004 - as above
    return duration


def _as_strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_LIST_ITEMS:
        raise ValueError(f"must be a list of at most {MAX_LIST_ITEMS} texts")
    return tuple(_as_string(item) for item in value)


_CONVERT: Final[dict[FieldType, Callable[[object], FactValue]]] = {
    FieldType.BOOL: _as_bool,
    FieldType.INT: _as_int,
    FieldType.DOUBLE: _as_double,
    FieldType.STRING: _as_string,
    FieldType.TIMESTAMP: _as_moment,
    FieldType.DURATION: _as_duration,
    FieldType.STRINGS: _as_strings,
}


def counts_as(fact: Fact, fact_type: FactType, now: datetime) -> bool:
    """Return whether a fact counts now, as this type: it may have been read under an earlier policy."""
    return fact.counts_at(now) and now < fact.observed_at + fact_type.max_age and has_declared_shape(fact, fact_type)


def has_declared_shape(fact: Fact, fact_type: FactType) -> bool:
    """Return whether a fact that was read under an earlier policy still is one of this type."""
    if (fact.caller is not None) != (fact_type.subject in CHOSEN_BY_CALLER):
        return False  # it was told about another kind of subject, which may have had the same name
    try:
        return all(_is_one(value, fact_type.fields[name]) for name, value in fact.values.items())
    except (KeyError, ValueError, OverflowError):
        return False


def _is_one(value: FactValue, field_type: FieldType) -> bool:
    """Return whether ``value`` is what reading it would give: 3 is read as a double, and yet is none."""
    converted = _CONVERT[field_type](value)
    return type(converted) is type(value) and converted == value
