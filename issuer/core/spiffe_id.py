"""SPIFFE IDs and trust domains in canonical form (SPIFFE-ID section 2). What is not canonical is refused, never mended.

The specification lets a parser compare scheme and trust domain without regard to case. We do not: two spellings of one
identity would be two keys in a policy, a record or a cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from issuer.core.errors import CallerNotVerified, Reason

SCHEME = "spiffe://"
MAX_ID_BYTES = 2048
"""SPIFFE-ID section 2.3: the size every implementation supports."""
MAX_TRUST_DOMAIN_BYTES = 255
"""SPIFFE-ID section 2.3: the maximum length of a URI host (RFC 3986 section 3.2.2)."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_PATH = re.compile(r"(?:/[a-zA-Z0-9._-]+)+")


class SpiffeIdError(CallerNotVerified):
    """A text that is not a SPIFFE ID of a workload in canonical form. ``reason`` says which rule it breaks."""


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """A trust domain's name, for example ``prod.example``."""

    name: str

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Return the trust domain that ``text`` names, without scheme.

        Raises:
            SpiffeIdError: When it is not canonical.
        """
        if len(text) > MAX_TRUST_DOMAIN_BYTES or not _TRUST_DOMAIN.fullmatch(text):
            raise SpiffeIdError(
                Reason.SPIFFE_ID_NOT_CANONICAL,
                "a trust domain is 1 to 255 of the characters a-z, 0-9, '.', '-' and '_'",
            )
        return cls(text)

    def __hash__(self) -> int:
        return hash(self.name)  # that of a text is remembered in it

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """The SPIFFE ID of a workload: a trust domain and a path that is not empty."""

    trust_domain: TrustDomain
    path: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Return the SPIFFE ID that ``text`` spells.

        Raises:
            SpiffeIdError: SPIFFE_ID_TOO_LONG, SPIFFE_ID_WITHOUT_PATH or SPIFFE_ID_NOT_CANONICAL.
        """
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIdError(Reason.SPIFFE_ID_TOO_LONG, f"a SPIFFE ID has at most {MAX_ID_BYTES} bytes")
        if not text.startswith(SCHEME):
            raise SpiffeIdError(Reason.SPIFFE_ID_NOT_CANONICAL, "a SPIFFE ID starts with 'spiffe://', in lower case")
        name, slash, rest = text.removeprefix(SCHEME).partition("/")
        trust_domain = TrustDomain.parse(name)
        if not rest:
            raise SpiffeIdError(Reason.SPIFFE_ID_WITHOUT_PATH, "the SPIFFE ID names a trust domain, not a workload")
        path = slash + rest
        if not _PATH.fullmatch(path) or not {".", ".."}.isdisjoint(rest.split("/")):
            raise SpiffeIdError(
                Reason.SPIFFE_ID_NOT_CANONICAL,
                "a path is segments of the characters a-z, A-Z, 0-9, '.', '-' and '_', none of them '.' or '..'",
            )
        return cls(trust_domain, path)

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments; never empty."""
        return tuple(self.path[1:].split("/"))

    def __hash__(self) -> int:
        return hash(self.path)  # that of a text is remembered in it; few trust domains have the same paths

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain.name}{self.path}"
