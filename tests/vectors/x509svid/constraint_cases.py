"""Cases about name constraints (RFC 5280 section 4.2.1.10, X509-SVID section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from vectors.x509svid.case import PROD, WORKLOAD, Case, dns, prod_bundle, uri
from vectors.x509svid.certificates import authority, leaf
from vectors.x509svid.chain_cases import PATHS, below, forged

if TYPE_CHECKING:
    from collections.abc import Iterator

VIOLATED = "CHAIN_NAME_CONSTRAINTS"


def _permit(name: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints([name], None)


def _exclude(name: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(None, [name])


_CONSTRAINTS: dict[str, tuple[str, x509.NameConstraints, str | None]] = {
    "satisfied": ("permit prod.example", _permit(uri("prod.example")), None),
    "satisfied_by_domain": ("permit what is below .example", _permit(uri(".example")), None),
    "exclude_another": ("exclude partner.example", _exclude(uri("partner.example")), None),
    "for_dns_names": (
        "permit DNS names below other.example, and say nothing of URIs",
        _permit(dns("other.example")),
        None,
    ),
    "violated": ("permit partner.example", _permit(uri("partner.example")), VIOLATED),
    "violated_by_domain": (
        "permit what is below .prod.example, which prod.example is not",
        _permit(uri(".prod.example")),
        VIOLATED,
    ),
    "excluded": ("exclude prod.example", _exclude(uri("prod.example")), VIOLATED),
    "excluded_by_domain": ("exclude what is below .example", _exclude(uri(".example")), VIOLATED),
    "permitted_and_excluded": (
        "permit and exclude prod.example",
        x509.NameConstraints([uri("prod.example")], [uri("prod.example")]),
        VIOLATED,
    ),
}


def constraint_cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, (about, constraint, reason) in _CONSTRAINTS.items():
        for where, critical in (("root", True), ("intermediate", True), ("intermediate_not_critical", False)):
            yield _constrained(name, where, about, constraint, reason, critical=critical)
    yield from _beside()


def _beside() -> Iterator[Case]:
    root = authority("root for dns names", "prod.example", extra=[(_permit(dns("good.example")), True)])
    presented = leaf("dns outside", "", root, names=[uri(WORKLOAD), dns("evil.test")])
    yield Case(
        "name_constraints_violated_by_dns_san",
        "A DNS SAN is outside what the root permits; the SPIFFE ID is not.",
        "RFC 5280 section 4.2.1.10",
        presented,
        VIOLATED,
        bundles=prod_bundle(root),
    )
    strict = authority("root with constraints", "prod.example", extra=[(_permit(uri("prod.example")), True)])
    for name, about, changes, reason in (
        ("incomplete", "The root has name constraints, but another root signed.", None, "CHAIN_INCOMPLETE"),
        ("forged", "The root's name constraints are satisfied, the signature is forged.", strict, "CHAIN_INCOMPLETE"),
    ):
        signer = changes or authority("unknown root", "prod.example")
        made = below(f"name constraints {name}", signer)
        yield Case(
            f"name_constraints_{name}",
            about,
            PATHS,
            forged(made) if changes else made,
            reason,
            bundles=prod_bundle(strict),
        )


def _constrained(
    name: str, where: str, about: str, constraint: x509.NameConstraints, reason: str | None, *, critical: bool
) -> Case:
    label = f"{where} that has {name}"
    if where == "root":
        root = authority(label, "prod.example", extra=[(constraint, critical)])
        signer = root
    else:
        root = PROD
        signer = authority(label, "prod.example", PROD, extra=[(constraint, critical)])
    return Case(
        f"{'' if reason else 'valid_'}name_constraints_{name}_{where}",
        f"Name constraints of the {where.replace('_', ' ')} {about}.",
        "X509-SVID section 4.2",
        leaf(f"leaf of {label}", WORKLOAD, signer),
        reason,
        chain=() if where == "root" else (signer,),
        bundles=prod_bundle(root),
    )
