"""Kinds of token that are dead, filed so that a look costs the same however many there are. Pure.

A kind is filed under the first that it names of workload, key, application and audience. Workload patterns are found by
their text: of patterns with wildcards in the same places only one can match an ID, and its text follows from the ID.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client.verification.revocations_news import DeadKind
    from agent_client.verification.verified_token import VerifiedToken

_SCHEME: Final = "spiffe://"
_Place = tuple[str, str]
"""What kinds are filed under: the name of a field, and its value."""


class _Shape(NamedTuple):
    """Where a workload pattern has wildcards: how many segments without a final ``**``, which are ``*``, and that."""

    length: int
    stars: tuple[int, ...]
    open_ended: bool


class DeadKinds:
    """A set of :class:`DeadKind`. For one thread that changes it, and any number that look."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], DeadKind] = {}
        # Lists in it are replaced, never changed: whoever looks has one or the other.
        self._filed: dict[_Place, tuple[DeadKind, ...]] = {}
        self._shapes: Counter[_Shape] = Counter()

    def __len__(self) -> int:
        return len(self._kinds)

    def put(self, kind: DeadKind) -> None:
        """Take in a kind, in the place of an earlier one of the same revocation and audience."""
        # The new one first: at no moment is neither there.
        key = kind.revocation_id, kind.audience
        before = self._kinds.get(key)
        self._kinds[key] = kind
        self._file(kind)
        if before is not None:
            self._unfile(before)

    def forget(self, now: float) -> None:
        """Drop the kinds of which no token can be alive.

        Args:
            now: Unix seconds.
        """
        over = [key for key, kind in self._kinds.items() if kind.forget_at is not None and kind.forget_at <= now]
        for key in over:
            self._unfile(self._kinds.pop(key))

    def hits(self, token: VerifiedToken, key_id: str) -> bool:
        """Return whether a token is of one of the kinds. Safe in any thread."""
        return any(
            _hits(kind, token, key_id) for place in self._places(token, key_id) for kind in self._filed.get(place, ())
        )

    def _places(self, token: VerifiedToken, key_id: str) -> Iterator[_Place]:
        """Yield where a kind that this token is of would be filed."""
        trust_domain, *segments = token.subject.removeprefix(_SCHEME).split("/")
        for shape in tuple(self._shapes):
            if len(segments) > shape.length if shape.open_ended else len(segments) == shape.length:
                yield "workload", _pattern(shape, trust_domain, segments)
        yield "key_id", key_id
        yield "application", token.application or ""
        yield "audience", token.audience
        yield "", ""

    def _file(self, kind: DeadKind) -> None:
        if kind.workload:
            self._shapes[_shape(kind.workload)] += 1
        place = _place(kind)
        self._filed[place] = (*self._filed.get(place, ()), kind)

    def _unfile(self, kind: DeadKind) -> None:
        place = _place(kind)
        others = list(self._filed[place])
        others.remove(kind)
        if others:
            self._filed[place] = tuple(others)
        else:
            del self._filed[place]
        if kind.workload:
            shape = _shape(kind.workload)
            self._shapes[shape] -= 1
            if not self._shapes[shape]:
                del self._shapes[shape]


def _place(kind: DeadKind) -> _Place:
    for name in ("workload", "key_id", "application", "audience"):
        if value := getattr(kind, name):
            return name, value
    return "", ""


def _shape(workload: str) -> _Shape:
    _, *segments = workload.removeprefix(_SCHEME).split("/")
    open_ended = segments[-1:] == ["**"]
    if open_ended:
        segments.pop()
    return _Shape(len(segments), tuple(i for i, segment in enumerate(segments) if segment == "*"), open_ended)


def _pattern(shape: _Shape, trust_domain: str, segments: list[str]) -> str:
    """Return the only pattern of this shape that such an ID matches (``*`` occurs in no SPIFFE ID, section 2.2)."""
    parts = segments[: shape.length]
    for position in shape.stars:
        parts[position] = "*"
    if shape.open_ended:
        parts.append("**")
    return "/".join((_SCHEME + trust_domain, *parts))


def _hits(kind: DeadKind, token: VerifiedToken, key_id: str) -> bool:
    """Return whether all but the workload is so, which was looked up."""
    issued_at = token.claims["iat"]
    return (
        kind.audience in {"", token.audience}
        and kind.application in {"", token.application}
        and kind.key_id in {"", key_id}
        and (kind.issued_from is None or kind.issued_from <= issued_at)
        and (kind.issued_until is None or issued_at <= kind.issued_until)
    )
