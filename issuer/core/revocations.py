"""The revocations that hold, indexed so that looking them up costs the same however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.index import ANY_AUDIENCE, RuleIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.revocation import Issued, Revocation

_FILED_UNDER: Final = ("basis", "application", "rule", "policy", "audience", "key")
"""A revocation without a workload is filed under the first of these that it names; they are met in this order."""


class _Filed:
    """A revocation in the index of workloads, which tells what it holds apart by identity."""

    __slots__ = ("revocation",)

    def __init__(self, revocation: Revocation) -> None:
        self.revocation = revocation

    @property
    def workloads(self) -> tuple[WorkloadPattern, ...]:
        workload = self.revocation.selector.workload
        return () if workload is None else (workload,)

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        return (self.revocation.selector.audience or ANY_AUDIENCE,)


class Revocations:
    """An immutable set of revocations by attributes; those of single tokens are no matter of it.

    Args:
        revocations: Which.
        epoch: The number of the last change that a decision can depend on.
        key_id: The ``kid`` by which this issuer signs.
    """

    __slots__ = ("_everything", "_filed", "_workloads", "epoch", "key_id")

    def __init__(self, revocations: Iterable[Revocation] = (), *, epoch: int = 0, key_id: str = "") -> None:
        self.epoch = epoch
        self.key_id = key_id
        by_workload: list[_Filed] = []
        self._everything: list[Revocation] = []
        self._filed: dict[tuple[str, str], list[Revocation]] = {}
        for revocation in revocations:
            selector = revocation.selector
            if selector.workload is not None:
                by_workload.append(_Filed(revocation))
            elif name := next((name for name in _FILED_UNDER if getattr(selector, name) is not None), None):
                self._filed.setdefault((name, getattr(selector, name)), []).append(revocation)
            else:
                self._everything.append(revocation)
        self._workloads = RuleIndex(by_workload) if by_workload else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is revoked by attributes; most issuers, most of the time."""
        return not (self._workloads or self._filed or self._everything)

    def stopping(self, issued: Issued) -> Revocation | None:
        """Return why a token must not be issued at its ``time``: of several the oldest; ``None`` when it may be."""
        stops = (revocation for revocation in self._near(issued) if revocation.stops(issued))
        return min(stops, key=lambda revocation: revocation.id, default=None)

    def killing(self, issued: Issued, seq: int) -> Revocation | None:
        """Return why a token that was recorded under ``seq`` is dead, of several the oldest; ``None`` if it lives."""
        kills = (revocation for revocation in self._near(issued) if revocation.kills(issued, seq))
        return min(kills, key=lambda revocation: revocation.id, default=None)

    def made_since(self, issued: Issued, time: int) -> Revocation | None:
        """Return a revocation that hits a token and was made at a moment or after it, the oldest; ``None`` for none."""
        made = (revocation for revocation in self._near(issued) if revocation.time >= time)
        hits = (revocation for revocation in made if revocation.selector.hits(issued))
        return min(hits, key=lambda revocation: revocation.id, default=None)

    def _near(self, issued: Issued) -> Iterator[Revocation]:
        """Yield what may hit a token or one of those above it, some of it more than once."""
        yield from self._everything
        for each in issued.line:
            yield from self._filed_near(each)

    def _filed_near(self, issued: Issued) -> Iterator[Revocation]:
        if self._workloads is not None:
            for audience in (issued.audience, ANY_AUDIENCE):
                for filed in self._workloads.matching(issued.caller, audience):
                    yield filed.revocation
        if self._filed:
            for key in _keys(issued):
                yield from self._filed.get(key, ())


def _keys(issued: Issued) -> Iterator[tuple[str, str]]:
    for name in issued.basis:
        yield "basis", name
    yield "application", issued.application
    for rule in issued.rules:
        yield "rule", rule
    yield "policy", issued.policy
    yield "audience", issued.audience
    yield "key", issued.key


NOTHING_REVOKED: Final = Revocations()
