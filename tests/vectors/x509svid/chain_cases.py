"""Cases about the chain (RFC 5280 section 6, X509-SVID sections 3.2, 4.1, 4.2 and 5.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from vectors.x509svid import der
from vectors.x509svid.case import FUTURE, PARTNER, PAST, PROD, WORKLOAD, Case, prod_bundle, uri
from vectors.x509svid.certificates import ECDSA_WITH_SHA1, Issued, authority, ec_key, leaf, rsa_key

from issuer_testing.spire.authority import BOTH_USAGES, key_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = "X509-SVID section 5.1"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
INTERMEDIATE = authority("intermediate", "prod.example", PROD)


def path_length(value: int) -> x509.BasicConstraints:
    """Return a CA's basic constraints with a path length."""
    return x509.BasicConstraints(ca=True, path_length=value)


def below(name: str, *chain: Issued) -> Issued:
    """Return a workload's leaf, signed by the first of ``chain``."""
    return leaf(f"leaf of {name}", WORKLOAD, chain[0])


def chain_cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _accepted()
    yield from _intermediates()
    yield from _critical()
    yield from _links()
    yield from _validity()
    yield from _path_lengths()
    yield from _roots()


def _accepted() -> Iterator[Case]:
    second = authority("second intermediate", "prod.example", INTERMEDIATE)
    leaf_of_two = below("second intermediate", second)
    unused = authority("unused intermediate", "prod.example", PROD)
    plain = authority("intermediate without uri", "prod.example", PROD, names=())
    deep = [PROD]
    for number in range(1, 6):
        deep.append(authority(f"level {number}", "prod.example", deep[-1]))
    next_root = authority("prod next root", "prod.example")
    ca384 = authority("p384 intermediate", "prod.example", PROD, key=ec_key("p384 ca", ec.SECP384R1()))
    clients = authority("intermediate for clients", "prod.example", PROD, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    anything = authority(
        "intermediate for anything", "prod.example", PROD, purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
    )
    cases: list[tuple[str, str, tuple[Issued, ...], tuple[Issued, ...]]] = [
        ("intermediate", "One intermediate.", (below("intermediate", INTERMEDIATE), INTERMEDIATE), (PROD,)),
        ("two_intermediates", "Two intermediates.", (leaf_of_two, second, INTERMEDIATE), (PROD,)),
        ("intermediates_in_any_order", "Two, the upper one first.", (leaf_of_two, INTERMEDIATE, second), (PROD,)),
        (
            "unused_intermediate",
            "A second intermediate that is part of no path.",
            (below("intermediate", INTERMEDIATE), unused, INTERMEDIATE),
            (PROD,),
        ),
        ("root_presented", "The root is presented too.", (below("prod root", PROD), PROD), (PROD,)),
        ("intermediate_without_uri", "The intermediate has no SPIFFE ID.", (below("plain", plain), plain), (PROD,)),
        ("five_intermediates", "As many as this verifier follows.", (below("level 5", deep[5]), *deep[:0:-1]), (PROD,)),
        (
            "second_authority",
            "The bundle has two roots; the second one signed.",
            (below("next", next_root),),
            (PROD, next_root),
        ),
        (
            "first_authority",
            "The bundle has two roots; the first one signed.",
            (below("prod root", PROD),),
            (PROD, next_root),
        ),
        (
            "authority_is_an_intermediate",
            "The bundle holds the intermediate and not the root.",
            (below("intermediate", INTERMEDIATE),),
            (INTERMEDIATE,),
        ),
        (
            "p384_intermediate",
            "The intermediate's key is on P-384.",
            (below("p384 intermediate", ca384), ca384),
            (PROD,),
        ),
        (
            "intermediate_for_clients",
            "The intermediate's extended key usage has clientAuth.",
            (below("clients", clients), clients),
            (PROD,),
        ),
        (
            "intermediate_for_anything",
            "The intermediate's extended key usage is anyExtendedKeyUsage.",
            (below("anything", anything), anything),
            (PROD,),
        ),
    ]
    for name, about, (presented, *chain), roots in cases:
        yield Case(f"valid_{name}", about, PATHS, presented, chain=tuple(chain), bundles=prod_bundle(*roots))


_INTERMEDIATE_FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "of_another_domain": (
        "The intermediate has the SPIFFE ID of another trust domain.",
        {"names": [uri("spiffe://partner.example")]},
        "CHAIN_INTERMEDIATE_FOREIGN",
    ),
    "with_two_uri_sans": (
        "The intermediate has the SPIFFE IDs of two trust domains.",
        {"names": [uri("spiffe://prod.example"), uri("spiffe://partner.example")]},
        "CHAIN_INTERMEDIATE_FOREIGN",
    ),
    "with_a_path": (
        "The intermediate has the SPIFFE ID of a workload.",
        {"names": [uri("spiffe://prod.example/ca")]},
        "CHAIN_INTERMEDIATE_FOREIGN",
    ),
    "is_no_ca": (
        "The intermediate's cA is false.",
        {"constraints": x509.BasicConstraints(ca=False, path_length=None)},
        "CHAIN_INVALID",
    ),
    "without_basic_constraints": ("It has no basic constraints.", {"constraints": None}, "CHAIN_INVALID"),
    "basic_constraints_not_critical": (
        "Its basic constraints are not critical.",
        {"constraints_critical": False},
        "CHAIN_INVALID",
    ),
    "without_key_usage": ("The intermediate has no key usage.", {"usage": None}, "CHAIN_INVALID"),
    "may_not_sign": (
        "The intermediate's key usage lacks keyCertSign.",
        {"usage": key_usage("digital_signature", "crl_sign")},
        "CHAIN_INVALID",
    ),
    "for_code_signing": (
        "The intermediate's extended key usage is codeSigning alone.",
        {"purposes": [ExtendedKeyUsageOID.CODE_SIGNING]},
        "CHAIN_INVALID",
    ),
    "unknown_critical_extension": (
        "The intermediate has a critical extension that nobody knows.",
        {"extra": [(UNKNOWN, True)]},
        "CHAIN_INVALID",
    ),
    "rsa_1024": ("The intermediate's key is RSA of 1,024 bits.", {"key": rsa_key("ca", 1024)}, "CHAIN_INVALID"),
    "sha1": ("The intermediate is signed with SHA-1.", {"algorithm": ECDSA_WITH_SHA1}, "CHAIN_INVALID"),
    "san_extension_twice": (
        "The intermediate's subjectAltName stands there twice.",
        {"broken": lambda tbs: der.with_extensions_repeated(tbs, bytes.fromhex("0603551d11"))},
        "SVID_MALFORMED",
    ),
}


def _intermediates() -> Iterator[Case]:
    for name, (about, changes, reason) in _INTERMEDIATE_FAULTS.items():
        signer = authority(f"intermediate {name}", "prod.example", PROD, **changes)
        yield Case(f"intermediate_{name}", about, "X509-SVID section 3.2", below(name, signer), reason, chain=(signer,))


def _critical() -> Iterator[Case]:
    """Yield intermediates whose critical extensions are understood."""
    purposes = x509.ExtendedKeyUsage(BOTH_USAGES)
    critical: dict[str, tuple[str, dict[str, Any]]] = {
        "extended_key_usage": ("extended key usage", {"extra": [(purposes, True)]}),
        "san": ("subjectAltName", {"names_critical": True}),
    }
    for name, (what, changes) in critical.items():
        signer = authority(f"intermediate critical {name}", "prod.example", PROD, **changes)
        about = f"The intermediate's {what} is critical."
        presented = below(f"critical {name}", signer)
        yield Case(f"valid_intermediate_{name}_critical", about, "RFC 5280 section 4.2", presented, chain=(signer,))


def _links() -> Iterator[Case]:
    foreign = authority("partner intermediate", "partner.example", PARTNER)
    nameless = authority("nameless partner intermediate", "partner.example", PARTNER, names=())
    impostor = authority("prod root", "prod.example", key=ec_key("impostor"))
    holder = leaf("holder", "spiffe://prod.example/holder", PROD)
    other = authority("another intermediate", "prod.example", PROD)
    seventh = [PROD]
    for number in range(1, 7):
        seventh.append(authority(f"depth {number}", "prod.example", seventh[-1]))
    leaf_of_intermediate = below("intermediate", INTERMEDIATE)
    cases: list[tuple[str, str, str, tuple[Issued, ...]]] = [
        ("intermediate_missing", "The intermediate is not presented.", "CHAIN_INCOMPLETE", (leaf_of_intermediate,)),
        ("intermediate_other", "Another intermediate is presented.", "CHAIN_INCOMPLETE", (leaf_of_intermediate, other)),
        (
            "cross_domain_intermediate",
            "An intermediate of partner.example signed an SVID for prod.example.",
            "CHAIN_INTERMEDIATE_FOREIGN",
            (below("foreign", foreign), foreign),
        ),
        (
            "cross_domain_intermediate_without_uri",
            "The same, by an intermediate that names no trust domain.",
            "TRUST_DOMAIN_MISMATCH",
            (below("nameless", nameless), nameless),
        ),
        (
            "leaf_as_intermediate",
            "The holder of an SVID signed another one with it.",
            "CHAIN_INVALID",
            (below("holder", holder), holder),
        ),
        (
            "authority_of_the_same_name",
            "The signer has the root's name and another key.",
            "CHAIN_INCOMPLETE",
            (below("impostor", impostor),),
        ),
        (
            "authority_of_the_same_name_presented",
            "The same, and the false root is presented.",
            "CHAIN_INCOMPLETE",
            (below("impostor", impostor), impostor),
        ),
        (
            "six_intermediates",
            "One more than this verifier follows.",
            "CHAIN_TOO_LONG",
            (below("depth 6", seventh[6]), *seventh[:0:-1]),
        ),
        (
            "signature_forged",
            "A bit of the leaf's signature is wrong.",
            "CHAIN_INCOMPLETE",
            (forged(below("forged", PROD)),),
        ),
        (
            "name_forged",
            "The SPIFFE ID was changed after signing.",
            "CHAIN_INCOMPLETE",
            (_renamed(below("renamed", PROD)),),
        ),
        (
            "intermediate_signature_forged",
            "A bit of the intermediate's signature is wrong.",
            "CHAIN_INCOMPLETE",
            (leaf_of_intermediate, forged(INTERMEDIATE)),
        ),
    ]
    for name, about, reason, (presented, *chain) in cases:
        yield Case(name, about, PATHS, presented, reason, chain=tuple(chain))


def forged(issued: Issued) -> Issued:
    """Return the certificate with a bit of its signature changed."""
    return Issued(issued.name, issued.subject, issued.der[:-1] + bytes([issued.der[-1] ^ 1]), issued.key)


def _renamed(issued: Issued) -> Issued:
    return Issued(issued.name, issued.subject, issued.der.replace(b"sa/settler", b"sa/admin-x"), issued.key)


def _validity() -> Iterator[Case]:
    rule = "RFC 5280 section 6.1.3"
    for name, about, valid in (
        ("expired", "The intermediate expired in 2021.", PAST),
        ("not_yet_valid", "The intermediate is valid from 2124 on.", FUTURE),
    ):
        signer = authority(f"intermediate {name}", "prod.example", PROD, valid=valid)
        reason = "CHAIN_INTERMEDIATE_EXPIRED"
        yield Case(f"intermediate_{name}", about, rule, below(name, signer), reason, chain=(signer,))
    start, end = datetime(2026, 6, 1, 12, tzinfo=UTC), datetime(2026, 6, 1, 13, tzinfo=UTC)
    second = timedelta(seconds=1)
    signer = authority("intermediate of an hour", "prod.example", PROD, valid=(start, end))
    root = authority("root of an hour", "prod.example", valid=(start, end))
    late = "CHAIN_INTERMEDIATE_EXPIRED"
    for name, about, now, of_intermediate, of_root in (
        (
            "not_yet_valid_by_a_second",
            "The clock is a second before the {}'s notBefore.",
            start - second,
            late,
            "CHAIN_INVALID",
        ),
        ("first_second", "The clock is at the {}'s notBefore.", start, None, None),
        ("last_second", "The clock is at the {}'s notAfter.", end, None, None),
        ("expired_by_a_second", "The clock is a second after the {}'s notAfter.", end + second, late, "CHAIN_INVALID"),
    ):
        prefix = "valid_" if of_root is None else ""
        yield Case(
            f"{prefix}intermediate_{name}",
            about.format("intermediate"),
            rule,
            below("intermediate of an hour", signer),
            of_intermediate,
            chain=(signer,),
            now=now,
            any_time=False,
        )
        yield Case(
            f"{prefix}root_{name}",
            about.format("root"),
            rule,
            below("root of an hour", root),
            of_root,
            bundles=prod_bundle(root),
            now=now,
            any_time=False,
        )


def _path_lengths() -> Iterator[Case]:
    rule = "RFC 5280 section 4.2.1.9"
    none = authority("root for leaves alone", "prod.example", constraints=path_length(0))
    one = authority("root for one level", "prod.example", constraints=path_length(1))
    narrow = authority("intermediate for leaves alone", "prod.example", PROD, constraints=path_length(0))
    chains: list[tuple[str, str, str | None, Issued, tuple[Issued, ...]]] = []
    upper = authority("level of one", "prod.example", one)
    lower = authority("level of two", "prod.example", upper)
    chains += [
        ("valid_path_length_0", "The root's path length is 0; no intermediate.", None, none, ()),
        ("valid_path_length_1", "The root's path length is 1; one intermediate.", None, one, (upper,)),
        (
            "root_path_length_exceeded",
            "The root's path length is 1; two intermediates.",
            "CHAIN_INVALID",
            one,
            (lower, upper),
        ),
        (
            "root_path_length_0_exceeded",
            "The root's path length is 0; one intermediate.",
            "CHAIN_INVALID",
            none,
            (authority("level below none", "prod.example", none),),
        ),
        (
            "intermediate_path_length_exceeded",
            "The upper intermediate's path length is 0; one more below it.",
            "CHAIN_INVALID",
            PROD,
            (authority("level below narrow", "prod.example", narrow), narrow),
        ),
        ("valid_intermediate_path_length_0", "The intermediate's path length is 0.", None, PROD, (narrow,)),
    ]
    for name, about, reason, root, chain in chains:
        presented = below(name, *chain, root)
        yield Case(name, about, rule, presented, reason, chain=chain, bundles=prod_bundle(root))


_ROOT_FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "root_expired": ("The root expired in 2021.", {"valid": PAST}),
    "root_is_no_ca": (
        "The root's cA is false.",
        {"constraints": x509.BasicConstraints(ca=False, path_length=None)},
    ),
    "root_without_key_usage": ("The root has no key usage.", {"usage": None}),
    "root_may_not_sign": ("The root's key usage lacks keyCertSign.", {"usage": key_usage("crl_sign")}),
    "root_rsa_1024": ("The root's key is RSA of 1,024 bits.", {"key": rsa_key("ca", 1024)}),
    "root_unknown_critical_extension": (
        "The root has a critical extension that nobody knows.",
        {"extra": [(UNKNOWN, True)]},
    ),
}


def _roots() -> Iterator[Case]:
    for name, (about, changes) in _ROOT_FAULTS.items():
        root = authority(name, "prod.example", **changes)
        yield Case(name, about, PATHS, below(name, root), "CHAIN_INVALID", bundles=prod_bundle(root))
    old = authority("root_expired", "prod.example", valid=PAST)
    yield Case(
        "valid_beside_an_expired_root",
        "The bundle also holds a root that has expired.",
        PATHS,
        below("prod root", PROD),
        bundles=prod_bundle(old, PROD),
    )
