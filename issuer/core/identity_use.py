"""Which identities are shared: one SPIFFE ID that several programs use, so that nobody can say which of them asked.

Replicas of one program ask for the same things from several addresses, and each has a certificate of its own: that is
no sharing. Several programs ask for *different* things from different addresses, or say that they act for different
applications. So what counts is how the use differs, not how many there are.

An address that was seen for a short while only (a job, a replica that was replaced) may differ from another by chance.
How much of what it asks for is known is estimated as I. J. Good and A. Turing did (Biometrika 40, 1953): of its next
requests, as many are for something new as those so far were for something that it asked for once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FEWEST_REQUESTS: Final = 3
"""An address with fewer requests says nothing about what its program usually asks for."""
MAX_ADDRESSES: Final = 100
"""So many addresses of one identity are compared, those with the most requests: each with each of the others."""


class Use(NamedTuple):
    """Requests of one identity that are alike.

    Attributes:
        caller: The SPIFFE ID.
        certificate: SHA-256 of the caller's certificate, hexadecimal.
        address: The network address, without its port.
        application: On whose behalf: as claimed, or as given.
        audience: As asked.
        scopes: As asked, joined by spaces.
        requests: How many.
        first: When first, microseconds since 1970 UTC.
        last: When last.
    """

    caller: str
    certificate: str
    address: str
    application: str
    audience: str
    scopes: str
    requests: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SharedIdentity:
    """What speaks for an identity being shared.

    Attributes:
        caller: The SPIFFE ID.
        score: From 0, used as by one program, to 1.
        difference: How much the use differs between addresses: 0 where each asks for what the others ask for, 1 where
            no two ask for the same, and each asked often enough to know.
        applications: On whose behalf it was used, sorted.
        addresses: How many there are.
        certificates: How many there are.
        certificates_at_once: How many were in use at the same moment, at most.
        groups: By address, what it asked for: what the addresses have in common is left out.
    """

    caller: str
    score: float
    difference: float
    applications: tuple[str, ...]
    addresses: int
    certificates: int
    certificates_at_once: int
    groups: Mapping[str, tuple[str, ...]]


def shared_identities(uses: Iterable[Use], min_score: float) -> list[SharedIdentity]:
    """Return the identities whose score is at least ``min_score``, the highest first."""
    by_caller: defaultdict[str, list[Use]] = defaultdict(list)
    for use in uses:
        by_caller[use.caller].append(use)
    found = (_judged(caller, listed) for caller, listed in by_caller.items())
    return sorted((one for one in found if one.score >= min_score), key=lambda one: (-one.score, one.caller))


def _judged(caller: str, uses: list[Use]) -> SharedIdentity:
    applications = tuple(sorted({use.application for use in uses} - {""}))
    asked = _asked_by_address(uses)
    difference = _difference(list(asked.values()))
    whats = {address: frozenset(counts) for address, counts in asked.items()}
    # n applications share an identity as n addresses with nothing in common would: 1 - 1/n of its uses are another's.
    by_application = 1 - 1 / len(applications) if applications else 0.0
    common = frozenset.intersection(*whats.values()) if whats else frozenset()
    return SharedIdentity(
        caller=caller,
        score=round(max(difference, by_application), 3),
        difference=round(difference, 3),
        applications=applications,
        addresses=len({use.address for use in uses}),
        certificates=len({use.certificate for use in uses}),
        certificates_at_once=_at_once(uses),
        groups={address: tuple(sorted(what - common)) for address, what in sorted(whats.items()) if what - common},
    )


def _asked_by_address(uses: Iterable[Use]) -> dict[str, Counter[str]]:
    """Return what each address asked for and how often, of those with enough requests, the busiest."""
    asked: defaultdict[str, Counter[str]] = defaultdict(Counter)
    requests: Counter[str] = Counter()
    for use in uses:
        for scope in use.scopes.split() or [""]:
            asked[use.address][f"{use.audience} {scope} {use.application}".rstrip()] += use.requests
        requests[use.address] += use.requests
    busiest = sorted(requests, key=lambda address: (-requests[address], address))[:MAX_ADDRESSES]
    return {address: asked[address] for address in busiest if requests[address] >= FEWEST_REQUESTS}


def _difference(asked: list[Counter[str]]) -> float:
    """Return how much two addresses differ, on average.

    Of two addresses the one that asked for less is looked at: what part of it did the other not ask for? So a replica
    that has had less to do yet does not differ.
    """
    known = [_known(counts) for counts in asked]
    pairs = [
        (1 - len(asked[one].keys() & asked[other].keys()) / min(len(asked[one]), len(asked[other])))
        * known[one]
        * known[other]
        for one, other in combinations(range(len(asked)), 2)
    ]
    return sum(pairs) / len(pairs) if pairs else 0.0


def _known(counts: Counter[str]) -> float:
    """Return which part of what an address asks for has been seen, from 0 to 1."""
    return 1 - sum(count == 1 for count in counts.values()) / counts.total()


def _at_once(uses: Iterable[Use]) -> int:
    """Return how many certificates were in use at one moment, at most: from their first request to their last."""
    spans: dict[str, tuple[int, int]] = {}
    for use in uses:
        first, last = spans.get(use.certificate, (use.first, use.last))
        spans[use.certificate] = min(first, use.first), max(last, use.last)
    steps = sorted([(first, 1) for first, _ in spans.values()] + [(last + 1, -1) for _, last in spans.values()])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
