"""What a change of policy gives and takes: identities and their access, not lines of text.

Access is a workload pattern, an application, an audience, a scope and a grant type. Groups and named conditions are
what they stand for, so moving, sorting and renaming change nothing. A grant that has ended gives nothing; one that
begins later gives, with its ``not_before``. Rules in audit mode give and take nothing; they are surroundings.

What is *not* seen: that one pattern lies within another. A grant to one workload beside a grant of the same to all of
its namespace counts as a gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.policy_access import PolicyAccess
from issuer.core.policy_surroundings import surroundings_changes
from issuer.core.policy_terms import Phrases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.policy import Policy
    from issuer.core.policy_access import Access, Affecting, Key, Place
    from issuer.core.policy_terms import Changed, Terms

_PRUNED_AT_MOST: Final = 32
"""So many ways to one access are held against each other; finding out which of more are needless would be quadratic."""


class Effect(StrEnum):
    """What happens to an access."""

    GAINS = "gains"
    LOSES = "loses"
    CHANGES = "changes"


_ORDER: Final = {effect: position for position, effect in enumerate(Effect)}


class AccessDifference(NamedTuple):
    """Access of one workload pattern that differs, in the same way for all of ``scopes`` and ``grant_types``.

    Attributes:
        application: ``None`` for whichever application it is.
        changes: The terms: of a gain what they are, of a change what they were and are. Empty for most losses.
        grants: The ids of the grants that give it, on either side.
        prohibitions: The ids of the prohibitions by which it differs.
    """

    effect: Effect
    workload: str
    audience: str
    application: str | None
    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]
    changes: tuple[Changed, ...]
    grants: tuple[str, ...]
    prohibitions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """All that differs. ``surroundings`` is what decides and is no access of anybody."""

    accesses: tuple[AccessDifference, ...]
    surroundings: tuple[Changed, ...]

    def workloads(self, effect: Effect) -> int:
        """Return how many workload patterns are affected so."""
        return len({access.workload for access in self.accesses if access.effect is effect})

    def __bool__(self) -> bool:
        return bool(self.accesses or self.surroundings)


def diff_policies(old: Policy, new: Policy, now: datetime) -> PolicyDifference:
    """Return what ``new`` gives and takes, beside ``old``, from ``now`` on."""
    phrases = Phrases()
    before, after = PolicyAccess(old, phrases, now), PolicyAccess(new, phrases, now)
    found = chain.from_iterable(_place(before, after, place) for place in _differing(before, after))
    return PolicyDifference(tuple(_merged(found)), tuple(surroundings_changes(old, new, phrases)))


def _differing(before: PolicyAccess, after: PolicyAccess) -> Iterator[Place]:
    """Yield the places worth a closer look."""
    places = before.places.keys() | after.places.keys()
    redeclared = {
        audience
        for audience in {audience for _, audience in places}
        if before.terms.of_audience(audience) != after.terms.of_audience(audience)
    }
    moved = before.terms.environments != after.terms.environments
    same_taking = before.taking == after.taking
    for place in places:
        if (
            moved
            or place[1] in redeclared
            or before.signature(place) != after.signature(place)
            or (not same_taking and before.taking_signature(place) != after.taking_signature(place))
        ):
            yield place


class _Single(NamedTuple):
    """An :class:`AccessDifference` of one scope and one grant type."""

    effect: Effect
    workload: str
    changes: tuple[Changed, ...]
    grants: frozenset[str]
    prohibitions: frozenset[str] = frozenset()


_Located = tuple[str, "Key", _Single]


def _place(before: PolicyAccess, after: PolicyAccess, place: Place) -> Iterator[_Located]:
    was, now = before.accesses(place), after.accesses(place)
    for key in was.keys() | now.keys():
        for single in _access(place[0], was.get(key), now.get(key)):
            yield place[1], key, single


def _access(workload: str, was: Access | None, now: Access | None) -> Iterator[_Single]:
    had, has = _is_given(workload, was), _is_given(workload, now)
    if now and has and not had:
        freed = was.prohibiting(workload) if was else frozenset()
        changes = (*_ways({}, now.ways), *_restrictions(now))
        yield _Single(Effect.GAINS, workload, changes, now.grants, freed)
    elif was and had and not has:
        taken = now.prohibiting(workload) if now else frozenset()
        yield _Single(Effect.LOSES, workload, (), was.grants, taken)
    elif was and now and had:
        if changes := tuple(_ways(was.ways, now.ways)):
            yield _Single(Effect.CHANGES, workload, changes, was.grants | now.grants)
        yield from _takings(was, now)
        yield from _limits(was, now)


def _is_given(workload: str, access: Access | None) -> bool:
    return access is not None and not access.prohibiting(workload)


def _ways(was: Iterable[Terms], now: Iterable[Terms]) -> Iterator[Changed]:
    """Yield how the terms differ. Ways on both sides are left out, and ways that another one covers."""
    left, right = _needed(was), _needed(now)
    removed, added = left - right, right - left
    if len(added) == 1 and (len(removed) == 1 or not left):
        (come,) = added
        words = next(iter(removed)).words() if removed else {}
        for name, text in come.words().items():
            if words.get(name) != text:
                yield name, words.get(name), text
        return
    for before, after in zip_longest(sorted(map(_in_a_line, removed)), sorted(map(_in_a_line, added))):
        yield "terms", before, after


def _needed(ways: Iterable[Terms]) -> set[Terms]:
    every = set(ways)
    if not 1 < len(every) <= _PRUNED_AT_MOST:
        return every
    return {way for way in every if not any(other is not way and other.cover(way) for other in every)}


def _in_a_line(terms: Terms) -> str:
    return ", ".join(f"{name} {text}" for name, text in terms.words().items() if text)


def _takings(was: Access, now: Access) -> Iterator[_Single]:
    """Yield what prohibitions newly take from some workloads or under some condition, and what they give back."""
    rules = was.grants | now.grants
    for workload, old, new in _by_workload(was.effective_takings(), now.effective_takings()):
        effect = Effect.CHANGES if old and new else Effect.LOSES if new else Effect.GAINS
        ids = frozenset().union(*old.values(), *new.values())
        yield _Single(effect, workload, (("prohibited", _either(old), _either(new)),), rules, ids)


def _limits(was: Access, now: Access) -> Iterator[_Single]:
    rules = was.grants | now.grants
    for workload, old, new in _by_workload(was.limitings, now.limitings):
        yield _Single(Effect.CHANGES, workload, (("limit", _either(old), _either(new)),), rules)


_Told = dict[str, "frozenset[str]"]


def _by_workload(was: Affecting, now: Affecting) -> Iterator[tuple[str, _Told, _Told]]:
    """Yield each pattern for which the words differ, with the words that are on one side alone, and their rules."""
    for workload in sorted({workload for workload, _ in was.keys() ^ now.keys()}):
        old, new = (
            {words: frozenset(ids) for (of, words), ids in side.items() if of == workload and (of, words) not in other}
            for side, other in ((was, now), (now, was))
        )
        yield workload, old, new


def _either(told: Iterable[str]) -> str | None:
    return " or ".join(sorted(told)) or None


def _restrictions(access: Access) -> Iterator[Changed]:
    for workload, words in sorted(access.effective_takings()):
        yield "prohibited", None, f"{workload} {words}"
    for workload, words in sorted(access.limitings):
        yield "limit", None, f"{workload} {words}"


def _merged(found: Iterable[_Located]) -> list[AccessDifference]:
    """Return the differences with all scopes and grant types that differ alike in one, in an order that stays."""
    types: dict[tuple[str, str | None, str, _Single], set[str]] = {}
    for audience, key, single in found:
        types.setdefault((audience, key.application, key.scope, single), set()).add(key.grant_type)
    scopes: dict[tuple[str, str | None, tuple[str, ...], _Single], set[str]] = {}
    for (audience, application, scope, single), kinds in types.items():
        scopes.setdefault((audience, application, tuple(sorted(kinds)), single), set()).add(scope)
    merged = [
        AccessDifference(
            single.effect,
            single.workload,
            audience,
            application,
            tuple(sorted(names)),
            kinds,
            single.changes,
            tuple(sorted(single.grants)),
            tuple(sorted(single.prohibitions)),
        )
        for (audience, application, kinds, single), names in scopes.items()
    ]
    return sorted(merged, key=_order)


def _order(access: AccessDifference) -> tuple[object, ...]:
    changes = [(name, before or "", after or "") for name, before, after in access.changes]
    return (
        *(_ORDER[access.effect], access.workload, access.audience, access.application or ""),
        *(access.scopes, access.grant_types, access.grants, access.prohibitions, changes),
    )
