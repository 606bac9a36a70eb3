"""Which rules speak of some of the workloads of a pattern, at a cost that grows with what is found, not with all rules.

:class:`~issuer.core.index.RuleIndex` answers for one identity; this does for patterns, by which policies are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from issuer.core.index import ANY_AUDIENCE
from issuer.core.spiffe_id import SCHEME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from issuer.core.patterns import WorkloadPattern

_ONE: Final = "*"
_REST: Final = "**"


class Speaking(Protocol):
    """What is asked of a rule here."""

    @property
    def workloads(self) -> tuple[WorkloadPattern, ...]:
        """The patterns that it speaks of."""
        ...

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences that it names, or :data:`~issuer.core.index.ANY_AUDIENCE`."""
        ...


R = TypeVar("R", bound=Speaking)


@dataclass(slots=True)
class _Node(Generic[R]):
    """The rules whose pattern ends here, and the nodes one segment further; a final ``**`` is a segment like others."""

    ending: list[tuple[R, WorkloadPattern]] = field(default_factory=list)
    children: dict[str, _Node[R]] = field(default_factory=dict)


class OverlapIndex(Generic[R]):
    """Rules by the segments of their patterns."""

    def __init__(self, rules: Iterable[R]) -> None:
        self._roots: dict[tuple[str, str], _Node[R]] = {}
        for rule in rules:
            for pattern in rule.workloads:
                trust_domain, *segments = _split(pattern)
                for audience in rule.audiences:
                    node = self._roots.setdefault((audience, trust_domain), _Node())
                    for segment in segments:
                        node = node.children.setdefault(segment, _Node())
                    node.ending.append((rule, pattern))

    def overlapping(self, pattern: WorkloadPattern, audience: str) -> Iterator[tuple[R, str]]:
        """Yield each rule about ``audience`` that shares workloads with ``pattern``, and the pattern of those."""
        trust_domain, *segments = _split(pattern)
        for name in (audience, ANY_AUDIENCE):
            if (root := self._roots.get((name, trust_domain))) is not None:
                for rule, other in _meeting(root, segments):
                    yield rule, meet(pattern, other)


def _meeting(root: _Node[R], segments: Sequence[str]) -> Iterator[tuple[R, WorkloadPattern]]:
    level = [root]
    for segment in segments:
        for node in level:
            if rest := node.children.get(_REST):
                yield from rest.ending
        below = [node.children for node in level]
        if segment == _REST:
            yield from _everything(below)
            return
        if segment == _ONE:
            level = [child for children in below for name, child in children.items() if name != _REST]
        else:
            level = [children[name] for children in below for name in (segment, _ONE) if name in children]
    for node in level:
        yield from node.ending


def _everything(below: Iterable[dict[str, _Node[R]]]) -> Iterator[tuple[R, WorkloadPattern]]:
    """Yield what ends anywhere below, except for a ``**`` right here, which was seen."""
    level = [child for children in below for name, child in children.items() if name != _REST]
    while level:
        node = level.pop()
        yield from node.ending
        level.extend(node.children.values())


def meet(left: WorkloadPattern, right: WorkloadPattern) -> str:
    """Return the pattern of the workloads that both speak of; there must be some. It is always one pattern."""
    trust_domain, *first = _split(left)
    _, *second = _split(right)
    both_open = left.shape.open_ended and right.shape.open_ended
    pairs = zip_longest(first[: left.shape.length], second[: right.shape.length])
    segments = [b if a is None or (a == _ONE and b is not None) else a for a, b in pairs]
    return f"{SCHEME}{'/'.join([trust_domain, *segments, *([_REST] if both_open else [])])}"


def _split(pattern: WorkloadPattern) -> list[str]:
    return pattern.text.removeprefix(SCHEME).split("/")
