"""Whose tokens of others may be exchanged: the ``subjects`` of a grant.

``spiffe://prod.example/ns/batch/sa/nightly``   a workload, by its JWT-SVID; patterns as everywhere in policy
``https://login.example.org#248289761001``      a person or program that an OpenID provider knows, by one of its tokens
``https://login.example.org#*``                 all whom that provider knows

A subject of a provider is written as its ``iss``, ``#`` and its ``sub``, percent-encoded (RFC 3986 section 2.1). An
``iss`` has no fragment (OpenID Connect Core section 2), so no two subjects are written alike, and none like a workload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from issuer.core.errors import IssuerError
from issuer.core.origin import OriginKind
from issuer.core.patterns import PatternError, WorkloadPattern, parse_pattern
from issuer.core.spiffe_id import MAX_ID_BYTES, SCHEME, SpiffeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from issuer.core.origin import Origin

_ANYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """Some subjects; :func:`parse_subject` makes it.

    Attributes:
        text: As it was written.
        workloads: Those that it speaks of; ``None`` where it speaks of a provider's.
    """

    text: str
    workloads: WorkloadPattern | None = None

    def matches(self, subject: str) -> bool:
        """Return whether this is a subject that the pattern speaks of."""
        if self.workloads is not None:
            spiffe_id = _workload(subject)
            return spiffe_id is not None and self.workloads.matches(spiffe_id)
        issuer, _, name = self.text.partition("#")
        return subject.startswith(f"{issuer}#") if name == _ANYBODY else subject == self.text


def parse_subject(text: str) -> SubjectPattern:
    """Return the pattern that ``text`` spells.

    Raises:
        PatternError: It is none, with the remedy.
    """
    if text.startswith(SCHEME):
        return SubjectPattern(text, parse_pattern(text))
    issuer, mark, name = text.partition("#")
    if len(text) > MAX_ID_BYTES or not _is_issuer(issuer) or not mark or not name:
        raise PatternError(f"a subject is a workload, or the issuer of a provider, '#' and who: '{_ANYBODY}' for all")
    if name != _ANYBODY and foreign_subject(issuer, unquote(name)) != text:
        raise PatternError(f"what follows '#' is '{_ANYBODY}', or the 'sub', percent-encoded", len(issuer) + 1)
    return SubjectPattern(text)


def foreign_subject(issuer: str, subject: str) -> str:
    """Return how a subject of an OpenID provider is written.

    Args:
        issuer: Its ``iss``, of the configuration.
        subject: Its ``sub``.
    """
    return f"{issuer}#{quote(subject, safe='')}"


def names_any(patterns: Iterable[SubjectPattern], subject: str) -> bool:
    """Return whether one of the patterns speaks of a subject; of no patterns none does."""
    return any(pattern.matches(subject) for pattern in patterns)


def is_for(patterns: Sequence[SubjectPattern], origin: Origin | None) -> bool:
    """Return whether a grant with these ``subjects`` counts for a request that rests on ``origin``.

    With some, for the exchange of a token of a subject that they name; without, for everything but the exchange of a
    token that this issuer did not make, which has no ancestor.
    """
    if origin is None or origin.kind is not OriginKind.EXCHANGE:
        return not patterns
    return names_any(patterns, origin.subject) if patterns else bool(origin.ancestors)


def _workload(subject: str) -> SpiffeId | None:
    try:
        return SpiffeId.parse(subject)
    except IssuerError:
        return None


def _is_issuer(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and not parts.query
