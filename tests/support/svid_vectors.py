"""The vectors of ``tests/vectors/x509svid``, and bundles to check them against."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from issuer.core.errors import Reason
from issuer.core.spiffe_id import SpiffeId, TrustDomain
from issuer.core.trust_bundles import TrustBundles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.x509 import Certificate

    from issuer.core.errors import IssuerError
    from issuer_testing.spire.authority import Authority

FOLDER = Path(__file__).parents[1] / "vectors" / "x509svid"
OWN_ID = "spiffe://prod.example/spiffe-issuer"


@dataclass
class FixedBundles(TrustBundles):
    """The port ``TrustBundles``, with bundles that a test changes by hand."""

    authorities_by_name: dict[str, tuple[Certificate, ...]]
    own: str = OWN_ID
    version: int = 1
    unavailable: IssuerError | None = None

    @classmethod
    def of(cls, *authorities: Authority) -> FixedBundles:
        return cls({authority.trust_domain: (authority.root,) for authority in authorities})

    def authorities(self, trust_domain: TrustDomain) -> tuple[Certificate, ...] | None:
        return self.authorities_by_name.get(trust_domain.name)

    def trust_domains(self) -> frozenset[TrustDomain]:
        return frozenset(map(TrustDomain, self.authorities_by_name))

    def own_id(self) -> SpiffeId:
        if self.unavailable:
            raise self.unavailable
        return SpiffeId.parse(self.own)

    def change(self, **bundles: tuple[Certificate, ...]) -> None:
        """Replace bundles, with underscores for dots in the names."""
        self.authorities_by_name.update({name.replace("_", "."): held for name, held in bundles.items()})
        self.version += 1


@dataclass(frozen=True)
class Vector:
    """One case."""

    name: str
    leaf_pem: bytes
    chain_pem: bytes | None
    key_pem: bytes = field(repr=False)
    bundles: Mapping[str, tuple[Certificate, ...]] = field(repr=False)
    allowed: frozenset[TrustDomain]
    now: datetime
    any_time: bool
    reason: Reason | None


def load_vectors() -> list[Vector]:
    """Return every case.

    Raises:
        FileNotFoundError: When there are none: a suite that finds no vectors must not pass.
    """
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] != 1 or manifest["verifier_id"] != OWN_ID or not manifest["cases"]:
        raise FileNotFoundError("the manifest is not one of these tests")
    return [_vector(entry) for entry in manifest["cases"]]


def _vector(entry: dict[str, Any]) -> Vector:
    return Vector(
        name=entry["name"],
        leaf_pem=(FOLDER / entry["leaf"]).read_bytes(),
        chain_pem=(FOLDER / entry["chain"]).read_bytes() if entry["chain"] else None,
        key_pem=(FOLDER / entry["key"]).read_bytes(),
        bundles={name: _authorities(file) for name, file in entry["bundles"].items()},
        allowed=frozenset(map(TrustDomain.parse, entry["allowed"])),
        now=datetime.fromisoformat(entry["now"]),
        any_time=entry["any_time"],
        reason=Reason(entry["reason"]) if entry["verdict"] == "refused" else None,
    )


def _authorities(file: str) -> tuple[Certificate, ...]:
    content = (FOLDER / file).read_bytes()
    return tuple(x509.load_pem_x509_certificates(content)) if content else ()
