"""Facts as text and back, exactly: what a decision was given is what a replay of it is given.

JSON without spaces, the facts sorted by type and subject. A value is tagged with its type, for JSON has fewer types
than facts; times and durations are whole microseconds, a double is its shortest text that reads back as itself.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from issuer.core.facts import Fact, FactValue
from issuer.core.instants import MICROSECOND, microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from issuer.core.facts import FactKey


def facts_text(facts: Iterable[Fact]) -> str:
    """Return facts as text."""
    listed = [_listed(fact) for fact in sorted(facts, key=lambda fact: fact.key)]
    return json.dumps(listed, separators=(",", ":"), allow_nan=False)


def facts_from_text(text: str) -> dict[FactKey, Fact]:
    """Return the facts of :func:`facts_text`, by key. Empty text holds none.

    Raises:
        ValueError, KeyError: The text is of another kind.
    """
    return {fact.key: fact for fact in fact_list_from_text(text)}


def fact_list_from_text(text: str) -> list[Fact]:
    """Return the facts of :func:`facts_text`, which may be several about one subject. Empty text holds none.

    Raises:
        ValueError, KeyError: The text is of another kind.
    """
    return [_fact(listed) for listed in json.loads(text)] if text else []


def _listed(fact: Fact) -> list[object]:
    values = [[name, *_tagged(value)] for name, value in sorted(fact.values.items())]
    times = [microseconds(fact.observed_at), microseconds(fact.expires_at)]
    return [fact.type, fact.subject, values, fact.source, *times, fact.caller, fact.audience]


def _fact(listed: list[Any]) -> Fact:
    kind, subject, values, source, observed, expires, caller, audience = listed
    return Fact(
        type=kind,
        subject=subject,
        values={name: _value(tag, value) for name, tag, value in values},
        source=source,
        observed_at=moment(observed),
        expires_at=moment(expires),
        caller=caller,
        audience=audience,
    )


def _tagged(value: FactValue) -> tuple[str, object]:  # noqa: PLR0911 - one for each type
    match value:
        case bool():
            return "bool", value
        case int():
            return "int", value
        case float():
            return "double", repr(value)
        case str():
            return "string", value
        case datetime():
            return "timestamp", microseconds(value)
        case timedelta():
            return "duration", value // MICROSECOND
        case _:
            return "strings", list(value)


def _value(tag: str, value: Any) -> FactValue:  # noqa: ANN401
    read: FactValue = _READ[tag](value)
    return read


_READ: Final[dict[str, Callable[[Any], FactValue]]] = {
    "bool": bool,
    "int": int,
    "string": str,
    "double": float,
    "timestamp": moment,
    "duration": lambda value: timedelta(microseconds=value),
    "strings": tuple,
}
