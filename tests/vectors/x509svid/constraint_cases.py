"""Cases about name constraints (RFC 5280 section 4.2.1.10, X509-SVID section 4.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from vectors.x509svid.case import PROD, WORKLOAD, Case, dns, prod_bundle, uri
from vectors.x509svid.certificates import Issued, authority, leaf, rsa_key
from vectors.x509svid.chain_cases import PATHS, UNKNOWN, below, forged, path_length

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
    yield from _unsupported()
    yield from _all_other_rules()
    yield from _policies()


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
    common_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "settler")])
    yield Case(
        "name_constraints_subject_not_utf8",
        "The subject, to which name constraints would apply, is no UTF-8.",
        "RFC 5280 section 4.1.2.4",
        leaf(
            "subject that is no utf-8",
            WORKLOAD,
            root,
            subject=common_name,
            names_critical=True,
            broken=lambda tbs: tbs.replace(b"\x0c\x07settler", b"\x0c\x07\xffettler"),
        ),
        "CHAIN_INVALID",
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


def _unsupported() -> Iterator[Case]:
    registered = x509.RegisteredID(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"))
    email = x509.RFC822Name("prod.example")
    odd = x509.RFC822Name("settler")
    for name, about, constraint, other in (
        ("unsupported_type", "The root permits a registered ID, a type nobody matches.", registered, registered),
        ("unsupported_name", "The root permits addresses of prod.example; one SAN is no address.", email, odd),
    ):
        root = authority(f"root with {name}", "prod.example", extra=[(_permit(constraint), True)])
        presented = leaf(f"leaf with {name}", "", root, names=[uri(WORKLOAD), other])
        rule = "RFC 5280 section 4.2.1.10"
        yield Case(f"name_constraints_{name}", about, rule, presented, VIOLATED, bundles=prod_bundle(root))


def _all_other_rules() -> Iterator[Case]:
    """Yield cases that keep to their name constraints: the other rules must hold on the way that checks those, too."""
    kept = [(_permit(uri("prod.example")), True)]
    about = "The root has name constraints, which are kept; "
    weak = authority("constrained rsa 1024", "prod.example", extra=kept, key=rsa_key("ca", 1024))
    loose = authority("constrained not critical", "prod.example", extra=kept, constraints_critical=False)
    flat = authority("constrained flat", "prod.example", extra=kept, constraints=path_length(0))
    unknown = authority("constrained unknown", "prod.example", extra=[*kept, (UNKNOWN, True)])
    below_flat = authority("below constrained flat", "prod.example", flat)
    cases: list[tuple[str, str, Issued, tuple[Issued, ...]]] = [
        ("rsa_1024", "its key is RSA of 1,024 bits.", weak, ()),
        ("basic_constraints_not_critical", "its basic constraints are not critical.", loose, ()),
        ("path_length", "its path length of 0 is not.", flat, (below_flat,)),
        ("unknown_critical_extension", "it has a critical extension that nobody knows.", unknown, ()),
    ]
    for name, what, root, chain in cases:
        presented = below(f"constrained {name}", *chain, root)
        yield Case(
            f"name_constraints_kept_{name}",
            about + what,
            PATHS,
            presented,
            "CHAIN_INVALID",
            chain=chain,
            bundles=prod_bundle(root),
        )
    start, end = datetime(2026, 6, 1, 12, tzinfo=UTC), datetime(2026, 6, 1, 13, tzinfo=UTC)
    brief = authority("constrained for an hour", "prod.example", extra=kept, valid=(start, end))
    presented = leaf("leaf for an hour", WORKLOAD, brief, valid=(start, end))
    for name, now in (("first_second", start), ("last_second", end)):
        yield Case(
            f"valid_name_constraints_{name}",
            f"{about}the clock is at the {name.replace('_', ' ')} of root and leaf.",
            "RFC 5280 section 4.1.2.5",
            presented,
            bundles=prod_bundle(brief),
            now=now,
            any_time=False,
        )
    signer = authority("constrained intermediate in the bundle", "prod.example", PROD, extra=kept)
    yield Case(
        "valid_name_constraints_authority_is_an_intermediate",
        "The bundle holds an intermediate with name constraints, which are kept, and not the root.",
        PATHS,
        below("constrained intermediate", signer),
        bundles=prod_bundle(signer),
    )


def _policies() -> Iterator[Case]:
    """Yield CAs that want a policy of what is below them, with and without name constraints that send others to look.

    Certificates with name constraints may be verified by other code than those without. A caller chooses which: it may
    present one that is part of no path.
    """
    wanted = (x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None), True)
    kept = (_permit(uri("prod.example")), True)
    signer = authority("intermediate that wants a policy", "prod.example", PROD, extra=[wanted])
    root = authority("root that wants a policy", "prod.example", extra=[wanted])
    strict = authority("constrained root that wants a policy", "prod.example", extra=[kept, wanted])
    bystander = authority("constrained and unused", "prod.example", extra=[kept])
    about = "wants a policy of every certificate below it; the leaf has none."
    by_signer, by_root = below("policies", signer), below("policies of a root", root)
    cases: dict[str, tuple[str, Issued, tuple[Issued, ...], Issued]] = {
        "intermediate": ("The intermediate", by_signer, (signer,), PROD),
        "intermediate_beside_name_constraints": ("The intermediate", by_signer, (signer, bystander), PROD),
        "root": ("The root", by_root, (), root),
        "root_beside_name_constraints": ("The root", by_root, (bystander,), root),
        "root_with_name_constraints": ("The root", below("constrained policies", strict), (), strict),
    }
    for name, (who, presented, chain, top) in cases.items():
        yield Case(
            f"policy_missing_{name}",
            f"{who} {about}",
            "RFC 5280 section 6.1.3 (f)",
            presented,
            "CHAIN_INVALID",
            chain=chain,
            bundles=prod_bundle(top),
        )
    yield Case(
        "valid_beside_name_constraints",
        "An intermediate with name constraints is presented that is part of no path.",
        PATHS,
        below("beside", PROD),
        chain=(bystander,),
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
