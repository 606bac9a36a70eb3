"""Rights that nobody uses: grants, and single scopes of grants, that no token was issued by."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from issuer.core.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issuer.core.policy import Policy


class UnusedRight(NamedTuple):
    """Scopes of a grant at an audience that no token had.

    Attributes:
        grant: Its id.
        audience: The API.
        scopes: Sorted.
        whole: None of the grant's scopes there was used.
        source: Where the grant stands: file and line.
    """

    grant: str
    audience: str
    scopes: tuple[str, ...]
    whole: bool
    source: str


def unused_rights(policy: Policy, used: Iterable[tuple[str, frozenset[str], frozenset[str]]]) -> list[UnusedRight]:
    """Return what of a policy was not used, by grant.

    A token names the grants that gave its scopes together, not which gave which: where two grants gave a token and both
    could have given a scope, both count as used.

    Args:
        policy: The policy.
        used: The audience, the grants and the scopes of tokens that were issued.
    """
    seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for audience, grants, scopes in used:
        for grant in grants:
            seen[audience, grant] |= scopes
    found = []
    for grant_rule in policy.grants:
        if grant_rule.mode is Mode.AUDIT:  # gives nothing, so nobody can have used it
            continue
        were_used = seen[grant_rule.audience, grant_rule.id]
        left = tuple(sorted(grant_rule.scopes - were_used))
        if left:
            whole = len(left) == len(grant_rule.scopes)
            found.append(UnusedRight(grant_rule.id, grant_rule.audience, left, whole, str(grant_rule.source)))
    return sorted(found)
