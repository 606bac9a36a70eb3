"""From a caller and an audience to the rules that may apply, at a cost that does not grow with the number of rules.

Every rule is filed under the text of its workload pattern, then under its audience. An exact identity is one look-up.
For wildcards it is one look-up for each *shape* (where the wildcards stand) that rules of the audience have in the
caller's trust domain. Shapes are few, whatever the number of rules: people write a handful of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from issuer.core.patterns import Shape, WorkloadPattern
    from issuer.core.spiffe_id import SpiffeId

ANY_AUDIENCE: Final = "*"
"""What a prohibition writes to name every audience. Never a declared audience's name."""


class Indexed(Protocol):
    """What the index needs to know of a rule; rules are told apart by identity."""

    @property
    def workloads(self) -> tuple[WorkloadPattern, ...]:
        """The patterns; a rule speaks of a caller when one of them matches."""
        ...

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        """The audiences that the rule names, or :data:`ANY_AUDIENCE`."""
        ...


R = TypeVar("R", bound=Indexed)

_Shapes = dict[str, tuple["Shape", ...]]  # by trust domain


class RuleIndex(Generic[R]):
    """An immutable index over rules."""

    __slots__ = ("_rules", "_shapes", "_shapes_anywhere")

    def __init__(self, rules: Iterable[R]) -> None:
        filed: dict[str, dict[str, list[R]]] = {}
        shapes: dict[str, dict[str, set[Shape]]] = {}
        for rule in rules:
            for pattern in rule.workloads:
                by_audience = filed.setdefault(pattern.text, {})
                for audience in rule.indexed_audiences:
                    by_audience.setdefault(audience, []).append(rule)
                    if not pattern.shape.is_exact:
                        shapes.setdefault(audience, {}).setdefault(pattern.trust_domain, set()).add(pattern.shape)
        self._rules: Mapping[str, Mapping[str, Sequence[R]]] = {
            text: {audience: tuple(group) for audience, group in by_audience.items()}
            for text, by_audience in filed.items()
        }
        self._shapes: Mapping[str, _Shapes] = {audience: _frozen(domains) for audience, domains in shapes.items()}
        self._shapes_anywhere: _Shapes = _frozen(_union(shapes.values()))

    def matching(self, spiffe_id: SpiffeId, audience: str) -> tuple[R, ...]:
        """Return the rules that speak of this caller and name this audience, each once, in no order to rely on."""
        if not self._rules:
            return ()
        found: dict[R, None] = {}
        for by_audience in self._filed_for(spiffe_id, self._shapes.get(audience, {})):
            found.update(dict.fromkeys(by_audience.get(audience, ())))
        return tuple(found)

    def covering(self, pattern: WorkloadPattern, audience: str) -> tuple[R, ...]:
        """Return the rules about ``audience`` that have a pattern for every workload that ``pattern`` speaks of."""
        trust_domain, segments = pattern.trust_domain, pattern.segments
        texts = {pattern.text: None}
        for shape in self._shapes.get(audience, {}).get(trust_domain, ()):
            if shape.fits(len(segments)) and (shape.open_ended or not pattern.shape.open_ended):
                texts[shape.pattern_for(trust_domain, segments)] = None
        found = (self._rules.get(text, {}).get(audience, ()) for text in texts)
        return tuple(dict.fromkeys(rule for rules in found for rule in rules))

    def audiences_of(self, spiffe_id: SpiffeId) -> frozenset[str]:
        """Return the audiences of every rule that speaks of this caller."""
        found = self._filed_for(spiffe_id, self._shapes_anywhere)
        return frozenset(audience for by_audience in found for audience in by_audience)

    def _filed_for(self, spiffe_id: SpiffeId, shapes: _Shapes) -> Iterator[Mapping[str, Sequence[R]]]:
        if (exact := self._rules.get(str(spiffe_id))) is not None:
            yield exact
        trust_domain, segments = spiffe_id.trust_domain.name, spiffe_id.segments
        for shape in shapes.get(trust_domain, ()):
            if shape.fits(len(segments)) and (hit := self._rules.get(shape.pattern_for(trust_domain, segments))):
                yield hit


def _frozen(shapes: Mapping[str, set[Shape]]) -> _Shapes:
    return {trust_domain: tuple(group) for trust_domain, group in shapes.items()}


def _union(shapes: Iterable[Mapping[str, set[Shape]]]) -> dict[str, set[Shape]]:
    union: dict[str, set[Shape]] = {}
    for domains in shapes:
        for trust_domain, group in domains.items():
            union.setdefault(trust_domain, set()).update(group)
    return union
