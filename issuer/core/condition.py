"""Conditions in CEL: the only file that knows the engine. Checked when the policy loads, evaluated to one of three.

The engine (``cel-expr-python``, over Google's C++ implementation) checks types and evaluates. The rest is ours:

- **A missing value is never a default.** Facts and optional claims are declared as variables with dotted names, which
  the engine turns into an error when they are not bound. But ``||`` and ``&&`` absorb errors, so the *needs* of a
  condition (every path that it mentions, less those that it guards with ``has()``) are looked at before it is
  evaluated: one that is missing means :attr:`Truth.UNKNOWN`.
- **A result counts only if its type is BOOL and its value is ``True`` or ``False``.** Some errors of the engine come
  back as strings, which are truthy; others are raised. Both are UNKNOWN.
- **Bounds.** The engine has none that could be set: 4 KiB of text, one level of comprehension, ``matches()`` with
  literal patterns only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from cel_expr_python import cel

from issuer.core.condition_text import GUARD, ConditionError, error_at, read_condition
from issuer.core.facts import FieldType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.facts import FactType
    from issuer.core.policy_faults import Position

PROVED: Final = {
    "caller.spiffe_id": cel.Type.STRING,
    "caller.trust_domain": cel.Type.STRING,
    "caller.path": cel.Type.STRING,
    "caller.environments": cel.Type.List(cel.Type.STRING),
    "caller.svid_expires": cel.Type.TIMESTAMP,
    "now": cel.Type.TIMESTAMP,
}
"""Always bound, from the verified SVID, the policy's environments and the clock."""
CLAIMED: Final = {
    "request.audience": cel.Type.STRING,
    "request.scopes": cel.Type.List(cel.Type.STRING),
    "request.grant_type": cel.Type.STRING,
}
"""Always bound, from the request."""
OPTIONAL: Final = {
    "request.application": cel.Type.STRING,
    "request.ttl": cel.Type.DURATION,
    "request.intent.operation": cel.Type.STRING,
    "request.intent.resource": cel.Type.STRING,
    "request.intent.workflow": cel.Type.STRING,
    "request.intent.ticket": cel.Type.STRING,
    "request.intent.transaction": cel.Type.STRING,
}
"""Bound when the caller said so; otherwise missing, like a fact."""

_FIELD_TYPES: Final = {
    FieldType.BOOL: cel.Type.BOOL,
    FieldType.INT: cel.Type.INT,
    FieldType.DOUBLE: cel.Type.DOUBLE,
    FieldType.STRING: cel.Type.STRING,
    FieldType.TIMESTAMP: cel.Type.TIMESTAMP,
    FieldType.DURATION: cel.Type.DURATION,
    FieldType.STRINGS: cel.Type.List(cel.Type.STRING),
}


_UNDECLARED = re.compile("undeclared reference to '([^']+)'")
_COMPLAINT = re.compile(r"ERROR: <input>:(-?[0-9]+):(-?[0-9]+): (.+)")


class Truth(Enum):
    """What a condition came to."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"
    """A value that it needs is missing, or the engine reported an error."""


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled condition; :class:`ConditionCompiler` makes it, once for each text.

    Attributes:
        text: As written.
        name: The name under which the policy declares it; ``None`` when it stands in a rule.
        needs: The paths that must be known, such as ``facts.risk.score`` or ``request.ttl``.
        mentions: Those, and the ones that ``has()`` guards.
        fact_types: The names of the types of fact among them.
        source: Where it is declared; without a name, where the first rule with this text stands.
    """

    text: str
    name: str | None
    needs: frozenset[str]
    mentions: frozenset[str]
    fact_types: frozenset[str]
    source: Position
    _expression: Any = field(repr=False)

    def missing(self, context: Context) -> frozenset[str]:
        """Return the needs that the context does not know."""
        return self.needs - context.values.keys()

    def evaluate(self, context: Context) -> Truth:
        """Return what it comes to; never raises."""
        if not self.needs <= context.values.keys():
            return Truth.UNKNOWN
        return truth_of(_evaluated(self._expression, context))


@dataclass(frozen=True, slots=True)
class Context:
    """The variables of one decision: ``values`` by path, with the optional ones only where they are known."""

    values: Mapping[str, Any]
    _activation: Any = field(repr=False)

    def value_of(self, part: Any) -> Any:  # noqa: ANN401
        """Return what a part of a condition comes to; ``None`` when the engine reports an error."""
        result = _evaluated(part, self)
        return None if result is None or result.type() == cel.Type.ERROR else result.value()


def _evaluated(expression: Any, context: Context) -> Any:  # noqa: ANN401 - the engine is not typed
    try:
        return expression.eval(context._activation)  # noqa: SLF001 - one module, two halves
    except Exception:  # noqa: BLE001 - whatever the engine raises, the condition did not come out true or false
        return None


def truth_of(result: Any) -> Truth:  # noqa: ANN401
    """Return what a result of the engine counts as."""
    if result is None or result.type() != cel.Type.BOOL:
        return Truth.UNKNOWN
    value = result.value()
    if value is True:
        return Truth.TRUE
    return Truth.FALSE if value is False else Truth.UNKNOWN


class ConditionCompiler:
    """Compiles the conditions of one policy against its declared facts, each distinct text once."""

    def __init__(self, fact_types: Mapping[str, FactType]) -> None:
        facts = {
            f"facts.{kind.name}.{name}": _FIELD_TYPES[of]
            for kind in fact_types.values()
            for name, of in kind.fields.items()
        }
        self.may_be_missing: Final = frozenset({*OPTIONAL, *facts})
        self._guards = [(GUARD + path, path) for path in self.may_be_missing]
        guards = {guard: cel.Type.BOOL for guard, _ in self._guards}
        self._env = cel.NewEnv(variables={**PROVED, **CLAIMED, **OPTIONAL, **facts, **guards})
        self._compiled: dict[str, Condition] = {}

    def compile(self, text: str, name: str | None, source: Position) -> Condition:
        """Return the condition that ``text`` spells.

        Raises:
            ConditionError: When it is malformed, breaks a bound, mentions what is not declared, or is not of type bool.
        """
        # 100,000 grants with few conditions hold each once.
        same = self._compiled.get(text)
        if same is None:
            same = self._compiled[text] = self._compile(text, source)
        return same if name is None else replace(same, name=name, source=source)

    def compile_part(self, text: str) -> Any:  # noqa: ANN401
        """Return the engine's expression for a part of a condition, of whatever type; for :meth:`Context.value_of`.

        Raises:
            ConditionError: When it cannot stand alone.
        """
        read = read_condition(text)
        try:
            return self._env.compile(read.engine_text)
        except Exception as error:  # noqa: BLE001 - the engine raises RuntimeError, and what else is not documented
            raise _engine_error(text, str(error)) from None

    def _compile(self, text: str, source: Position) -> Condition:
        read = read_condition(text)
        expression = self.compile_part(text)
        if expression.return_type() != cel.Type.BOOL:
            raise ConditionError(f"a condition is of type bool, this one of type {expression.return_type().name()}")
        for zone in read.time_zones:
            if not self._is_time_zone(zone.text):
                raise error_at(text, zone.start, f"there is no time zone {zone.text}")
        needs, mentions = read.needs & self.may_be_missing, read.mentions & self.may_be_missing
        fact_types = frozenset(path.split(".")[1] for path in mentions if path.startswith("facts."))
        return Condition(text, None, needs, mentions, fact_types, source, expression)

    def _is_time_zone(self, literal: str) -> bool:
        return truth_of(self._env.compile(f"timestamp(0).getHours({literal}) >= 0").eval(data={})) is Truth.TRUE

    def context(self, values: Mapping[str, Any]) -> Context:
        """Return the variables of one decision. ``values`` by path; what is missing is left out."""
        known = {guard: path in values for guard, path in self._guards}
        return Context(values, self._env.Activation({**values, **known}))


def _engine_error(text: str, message: str) -> ConditionError:
    """Return the first of the engine's complaints with its place, without the picture that it draws."""
    found = _COMPLAINT.search(message)
    if found is None:
        return ConditionError("the condition cannot be compiled")
    line, column = max(int(found[1]), 1), max(int(found[2]), 1)
    complaint = found[3].replace(" (in container '')", "").replace(f"'{GUARD}", "'")
    if undeclared := _UNDECLARED.match(complaint):  # the engine points to the last dot of a path; people begin before
        before = text.split("\n")[line - 1][: column - 1 + len(undeclared[1])]
        column = before.rfind(undeclared[1]) + 1 or column
    return ConditionError(complaint, line, column)
