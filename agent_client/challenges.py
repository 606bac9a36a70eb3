r"""The ``WWW-Authenticate`` header as values (RFC 9110 sections 11.3 and 11.6.1), read and written.

::

    Bearer realm="ledger", error="insufficient_scope", scope="ledger.write", Negotiate YII=
    |                                                                        |
    challenge of three parameters                                            challenge of one token68

Reading takes whatever a server sent and never fails. A line is read up to its first fault, and the challenge that the
fault is in, or follows, is left out: to guess where the next one begins would let a text inside of a broken string pass
for a challenge. Every bound is named here, and one pass reads a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_LINE_CHARACTERS = 8192
"""The longest line that is read: what nginx and Apache take for a whole header line by default."""

MAX_LINES = 16
MAX_CHALLENGES = 16
"""How many lines and challenges are read. Servers send one to three; IANA registers fewer than twenty schemes."""

MAX_PARAMETERS = 32
"""How many parameters a challenge may have: more than all that are registered for OAuth."""

# A token of RFC 9110 section 5.6.2. Quantifiers are possessive throughout, so that nothing is looked at twice.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Section 5.6.4, with obs-text as whatever a library made of those octets.
_QUOTED = r"(?:[\t !#-\[\]-~\x80-\U0010ffff]|\\[\t -~\x80-\U0010ffff])*+"
_END = r"(?=[ \t]*+(?:,|\Z))"
_PARAMETER = re.compile(rf'({_WORD})[ \t]*+=[ \t]*+(?:({_WORD})|"({_QUOTED})"){_END}')
_TOKEN68 = r"[A-Za-z0-9\-._~+/]++=*+"  # section 11.2
# A scheme alone, with its token68, or with the name of its first parameter next.
_SCHEME = re.compile(rf"({_WORD})(?:{_END}| ++(?:({_TOKEN68}){_END}|(?={_WORD}[ \t]*+=)|{_END}))")
_WHOLE_WORD = re.compile(_WORD)
_WHOLE_TOKEN68 = re.compile(_TOKEN68)
_UNPRINTABLE = re.compile(r"[^ -~]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What one authentication scheme asks for (RFC 9110 section 11.3).

    Attributes:
        scheme: The scheme as it was written, ``Bearer``; compare it without regard to case.
        parameters: By their names, in lower case; read-only. A character of a value that is not printable ASCII is
            ``?``: what a server wrote neither breaks a header nor reaches a terminal.
        token68: What stands in place of parameters in older schemes, ``Negotiate``; ``None`` where nothing does.

    Raises:
        ValueError: The scheme, or a name, is no token of RFC 9110, a name is not in lower case, or there are both
            parameters and a token68.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    token68: str | None = None

    def __post_init__(self) -> None:
        if not all(_WHOLE_WORD.fullmatch(word) for word in (self.scheme, *self.parameters)):
            raise ValueError("the scheme and the names of a challenge are tokens of RFC 9110 section 5.6.2")
        if any(name != name.lower() for name in self.parameters):
            raise ValueError("the names of a challenge's parameters are written in lower case")
        if self.token68 is not None and (self.parameters or not _WHOLE_TOKEN68.fullmatch(self.token68)):
            raise ValueError("a challenge has parameters or one token68 (RFC 9110 section 11.2)")
        printable = {name: _UNPRINTABLE.sub("?", value) for name, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(printable))

    def is_scheme(self, name: str) -> bool:
        """Return whether this challenge is of the scheme ``name``, whose case does not count."""
        return self.scheme.lower() == name.lower()

    def render(self) -> str:
        """Return the challenge as one header value, every parameter as a quoted string.

        Reading it gives this challenge again, as long as the bounds of reading are kept.
        """
        if self.token68 is not None:
            return f"{self.scheme} {self.token68}"
        parameters = ", ".join(f"{name}={_quote(value)}" for name, value in self.parameters.items())
        return f"{self.scheme} {parameters}" if parameters else self.scheme


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all ``WWW-Authenticate`` lines of one response, in their order.

    Whatever a server sends gives an answer. Left out are: of a line, the challenge that its first fault of syntax is in
    or follows, and all behind it; a challenge that names a parameter twice (RFC 9110 section 11.2 forbids it) or has
    more than :data:`MAX_PARAMETERS`; lines longer than :data:`MAX_LINE_CHARACTERS`; and what is past :data:`MAX_LINES`
    or :data:`MAX_CHALLENGES`. A challenge does not go on in the next line: nobody writes that, and parameters of a line
    that a proxy added would be taken for the server's.

    Raises:
        TypeError: ``values`` is one string, whose letters would be taken for lines.
    """
    if isinstance(values, str):
        raise TypeError("values are the lines of the header: write [value]")
    every = (challenge for line in islice(values, MAX_LINES) for challenge in _challenges(line))
    return tuple(islice(every, MAX_CHALLENGES))


class _Draft:
    """A challenge that is being read."""

    __slots__ = ("parameters", "scheme", "spoiled", "token68")

    def __init__(self, scheme: str, token68: str | None) -> None:
        self.scheme = scheme
        self.token68 = token68
        self.parameters: dict[str, str] = {}
        self.spoiled = False

    def add(self, name: str, plain: str | None, quoted: str) -> None:
        name = name.lower()
        self.spoiled |= name in self.parameters or len(self.parameters) == MAX_PARAMETERS
        if not self.spoiled:
            self.parameters[name] = _ESCAPED.sub(r"\1", quoted) if plain is None else plain

    def finished(self) -> Iterator[Challenge]:
        if not self.spoiled:
            yield Challenge(self.scheme, self.parameters, self.token68)


def _challenges(line: str) -> Iterator[Challenge]:
    if len(line) > MAX_LINE_CHARACTERS:
        return
    draft: _Draft | None = None
    place = _past_commas(line, 0)
    while place < len(line):
        if parameter := _PARAMETER.match(line, place):
            if draft is None or draft.token68 is not None:
                return  # a parameter of no challenge
            draft.add(parameter[1], parameter[2], parameter[3])
            place = parameter.end()
        elif scheme := _SCHEME.match(line, place):
            if draft is not None:
                yield from draft.finished()
            draft = _Draft(scheme[1], scheme[2])
            place = scheme.end()
        else:
            return
        place = _past_commas(line, place)
    if draft is not None:
        yield from draft.finished()


def _past_commas(line: str, place: int) -> int:
    """Return where the next element begins. Empty elements are allowed: RFC 9110 section 5.6.1.2."""
    while place < len(line) and line[place] in ", \t":
        place += 1
    return place


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
