"""Kinds of token that are dead, filed so that a look costs the same however many there are. Pure.

A kind is filed under the first that it names of workload, key, application and audience. Workload patterns are found by
their text: of patterns with wildcards in the same places only one can match an ID, and its text follows from the ID.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent_client.verification.revocations_news import DeadKind
    from agent_client.verification.verified_token import VerifiedToken

_SCHEME: Final = "spiffe://"
_MAX_WORKLOADS: Final = 1024
"""Of so many it is remembered where their kinds are filed. Each was written by the issuer."""
_Place = tuple[str, str | None]
"""What kinds are filed under: the name of a field, and its value."""
_WORKLOAD, _KEY, _APPLICATION, _AUDIENCE = _FIELDS = ("workload", "key_id", "application", "audience")
_ALL: Final[_Place] = ("", "")


class _Shape(NamedTuple):
    """Where a workload pattern has wildcards: how many segments without a final ``**``, which are ``*``, and that."""

    length: int
    stars: tuple[int, ...]
    open_ended: bool


class DeadKinds:
    """A set of :class:`DeadKind`. For one thread that changes it, and any number that look.

    Attributes:
        are_any: Whether there are any.
    """

    def __init__(self) -> None:
        self.are_any = False
        self._kinds: dict[tuple[str, str], DeadKind] = {}
        # Lists in it are replaced, never changed: whoever looks has one or the other.
        self._filed: dict[_Place, tuple[DeadKind, ...]] = {}
        self._shapes: Counter[_Shape] = Counter()
        self._known_workloads: dict[str, tuple[_Place, ...]] = {}

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
        self.are_any = bool(self._kinds)

    def hits(self, token: VerifiedToken, key_id: str) -> bool:
        """Return whether a token is of one of the kinds. Safe in any thread."""
        workloads = self._known_workloads.get(token.client_id)
        if workloads is None:
            workloads = self._look_at(token.client_id)
        filed = self._filed.get
        for place in (*workloads, (_KEY, key_id), (_APPLICATION, token.application), (_AUDIENCE, token.audience), _ALL):
            for kind in filed(place, ()):
                if _hits(kind, token, key_id):
                    return True
        return False

    def _look_at(self, workload: str) -> tuple[_Place, ...]:
        """Return where kinds of this workload are filed. Callers come again: it is remembered until a shape changes."""
        # In this order: what is remembered together with newer shapes is right, the other way round it would not be.
        known = self._known_workloads
        shapes = tuple(self._shapes)
        trust_domain, *segments = workload.removeprefix(_SCHEME).split("/")
        places = tuple(
            (_WORKLOAD, _pattern(shape, trust_domain, segments)) for shape in shapes if _fits(shape, len(segments))
        )
        if len(known) < _MAX_WORKLOADS:
            known[workload] = places
        return places

    def _file(self, kind: DeadKind) -> None:
        if kind.workload:
            self._shapes[_shape(kind.workload)] += 1
            self._known_workloads = {}
        place = _place(kind)
        self._filed[place] = (*self._filed.get(place, ()), kind)
        self.are_any = True

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
            self._known_workloads = {}


def _place(kind: DeadKind) -> _Place:
    for name in _FIELDS:
        if value := getattr(kind, name):
            return name, value
    return _ALL


def _shape(workload: str) -> _Shape:
    _, *segments = workload.removeprefix(_SCHEME).split("/")
    open_ended = segments[-1:] == ["**"]
    if open_ended:
        segments.pop()
    return _Shape(len(segments), tuple(i for i, segment in enumerate(segments) if segment == "*"), open_ended)


def _fits(shape: _Shape, segments: int) -> bool:
    return segments > shape.length if shape.open_ended else segments == shape.length


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
