"""Which workloads a rule speaks of: exact SPIFFE IDs, and patterns over whole path segments.

``spiffe://prod.example/ns/payments/sa/settler``  exactly this identity
``spiffe://prod.example/ns/*/sa/settler``         ``*``: exactly one path segment, whatever it is
``spiffe://prod.example/ns/payments/**``          a last ``**``: one or more path segments

Segments only: never substrings, never regular expressions. The trust domain is always literal, for a pattern over trust
domains would let any federated domain name its own members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.core.policy_faults import quoted
from issuer.core.spiffe_id import SCHEME, SpiffeId, SpiffeIdError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONE: Final = "*"
_REST: Final = "**"


class PatternError(ValueError):
    """A pattern is malformed. ``offset`` is the index into its text at which the fault begins."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a pattern has wildcards, without its literal segments; many patterns share one shape.

    Attributes:
        length: The number of segments, a final ``**`` not counted.
        stars: The positions of ``*``, ascending.
        open_ended: Whether a final ``**`` follows.
    """

    length: int
    stars: tuple[int, ...]
    open_ended: bool

    @property
    def is_exact(self) -> bool:
        """Whether a pattern of this shape is one SPIFFE ID."""
        return not self.stars and not self.open_ended

    def fits(self, segment_count: int) -> bool:
        """Return whether an ID with so many path segments can match a pattern of this shape."""
        return segment_count > self.length if self.open_ended else segment_count == self.length

    def pattern_for(self, trust_domain: str, segments: Sequence[str]) -> str:
        """Return the text of the only pattern of this shape that matches an ID which :meth:`fits`.

        This is what makes look-up independent of the number of patterns: ``*`` cannot occur in a SPIFFE ID
        (SPIFFE-ID section 2.2), so the text is never ambiguous.
        """
        parts = list(segments[: self.length])
        for position in self.stars:
            parts[position] = _ONE
        if self.open_ended:
            parts.append(_REST)
        return f"{SCHEME}{trust_domain}/{'/'.join(parts)}"


@dataclass(frozen=True, slots=True)
class WorkloadPattern:
    """A parsed pattern; :func:`parse_pattern` makes it. Equal texts are equal patterns."""

    text: str
    shape: Shape

    @property
    def trust_domain(self) -> str:
        """The literal trust domain."""
        return _split(self.text)[0]

    @property
    def segments(self) -> list[str]:
        """The segments of its path, wildcards included."""
        return _split(self.text)[1]

    def matches(self, spiffe_id: SpiffeId) -> bool:
        """Return whether the ID is one that this pattern speaks of."""
        segments = spiffe_id.segments
        return (
            self.shape.fits(len(segments))
            and self.shape.pattern_for(spiffe_id.trust_domain.name, segments) == self.text
        )


def _split(text: str) -> tuple[str, list[str]]:
    trust_domain, *segments = text.removeprefix(SCHEME).split("/")
    return trust_domain, segments


def parse_pattern(text: str) -> WorkloadPattern:
    """Return the pattern that ``text`` spells.

    Raises:
        PatternError: When it is none, with the place and the remedy.
    """
    if not text.startswith(SCHEME):
        raise PatternError(f"a workload begins with {SCHEME!r}, in lower case")
    trust_domain, segments = _split(text)
    if "*" in trust_domain:
        raise PatternError("the trust domain is always literal: it cannot have '*'", len(SCHEME))
    if not segments:
        raise PatternError(f"a workload has a path; for all of the trust domain write '{SCHEME}{trust_domain}/**'")
    stars = _star_positions(trust_domain, segments)
    open_ended = segments[-1] == _REST
    _check_literal_part(trust_domain, segments)
    return WorkloadPattern(text, Shape(len(segments) - open_ended, stars, open_ended))


def _star_positions(trust_domain: str, segments: Sequence[str]) -> tuple[int, ...]:
    offset = len(SCHEME) + len(trust_domain) + 1
    stars = []
    for position, segment in enumerate(segments):
        if segment == _ONE:
            stars.append(position)
        elif segment == _REST and position < len(segments) - 1:
            raise PatternError("'**' can only be the last segment", offset)
        elif "*" in segment and segment != _REST:
            raise PatternError(f"'*' stands for one whole segment and cannot be part of {quoted(segment)}", offset)
        offset += len(segment) + 1
    return tuple(stars)


def _check_literal_part(trust_domain: str, segments: Sequence[str]) -> None:
    """Leave every rule about trust domains, segments and lengths to the one parser of SPIFFE IDs."""
    literal = ["x" if "*" in segment else segment for segment in segments]
    try:
        SpiffeId.parse(f"{SCHEME}{trust_domain}/{'/'.join(literal)}")
    except SpiffeIdError as error:
        raise PatternError(error.message) from error
