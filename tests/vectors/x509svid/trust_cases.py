"""Cases about who signed the leaf and with what: keys, self-made leaves, trust domains (X509-SVID section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from vectors.x509svid.case import PARTNER, PROD, STRANGER, VERIFIER_ID, WORKLOAD, Case, prod_bundle, uri
from vectors.x509svid.certificates import (
    ECDSA_WITH_SHA1,
    MD5_WITH_RSA,
    PSS_WITHOUT_PARAMETERS,
    UNKNOWN_ALGORITHM,
    authority,
    ec_key,
    ed25519_key,
    leaf,
    rsa_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def trust_cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _keys()
    yield from _without_parameters()
    yield from _self_made()
    yield from _trust()
    yield from _bundles()


def _keys() -> Iterator[Case]:
    root = authority("rsa root", "prod.example", key=rsa_key("root", 2048))
    rule = "NIST SP 800-131A, RFC 9155, and the verifier's own choice"
    keys = {
        "valid_rsa_2048": ("The leaf's key is RSA of 2,048 bits.", rsa_key("leaf", 2048), None),
        "valid_p384": ("The leaf's key is on P-384.", ec_key("p384", ec.SECP384R1()), None),
        "valid_p521": ("The leaf's key is on P-521.", ec_key("p521", ec.SECP521R1()), None),
        "rsa_1024": ("The leaf's key is RSA of 1,024 bits.", rsa_key("leaf", 1024), "CHAIN_INVALID"),
        "p224": ("The leaf's key is on P-224.", ec_key("p224", ec.SECP224R1()), "CHAIN_INVALID"),
        "secp256k1": ("The leaf's key is on secp256k1.", ec_key("secp256k1", ec.SECP256K1()), "CHAIN_INVALID"),
        "ed25519": (
            "The leaf's key is Ed25519: sound, but no certificate library for the Web PKI takes it.",
            ed25519_key("leaf"),
            "CHAIN_INVALID",
        ),
    }
    for name, (about, key, reason) in keys.items():
        yield Case(name, about, rule, leaf(name, WORKLOAD, PROD, key=key), reason)
    yield Case(
        "valid_rsa_root",
        "The root signs with RSA.",
        rule,
        leaf("leaf of rsa root", WORKLOAD, root),
        bundles=prod_bundle(root),
    )
    for digest in (hashes.SHA384(), hashes.SHA512()):
        bits = digest.digest_size * 8
        presented = leaf(f"sha{bits} leaf", WORKLOAD, PROD, digest=digest)
        yield Case(f"valid_sha{bits}_leaf", f"The leaf is signed with SHA-{bits}.", rule, presented)
    yield Case(
        "sha224_leaf",
        "The leaf is signed with SHA-224.",
        rule,
        leaf("sha224 leaf", WORKLOAD, PROD, digest=hashes.SHA224()),
        "CHAIN_INVALID",
    )
    yield Case(
        "signature_algorithm_unknown",
        "The leaf is signed with an algorithm that does not exist.",
        "RFC 5280 section 4.1.1.2",
        leaf("unknown algorithm", WORKLOAD, PROD, algorithm=UNKNOWN_ALGORITHM),
        "CHAIN_INVALID",
    )
    yield Case(
        "sha1_leaf",
        "The leaf is signed with SHA-1.",
        rule,
        leaf("sha1 leaf", WORKLOAD, PROD, algorithm=ECDSA_WITH_SHA1),
        "CHAIN_INVALID",
    )
    yield Case(
        "md5_leaf",
        "The leaf is signed with MD5.",
        rule,
        leaf("md5 leaf", WORKLOAD, root, algorithm=MD5_WITH_RSA),
        "CHAIN_INVALID",
        bundles=prod_bundle(root),
    )


def _without_parameters() -> Iterator[Case]:
    root = authority("rsa root", "prod.example", key=rsa_key("root", 2048))
    unused = authority("pss intermediate", "prod.example", root, algorithm=PSS_WITHOUT_PARAMETERS)
    rule = "RFC 4055 section 3.1"
    yield Case(
        "pss_leaf_without_parameters",
        "The leaf's signature is RSASSA-PSS, and no parameters say with which digest.",
        rule,
        leaf("pss leaf", WORKLOAD, root, algorithm=PSS_WITHOUT_PARAMETERS),
        "CHAIN_INVALID",
        bundles=prod_bundle(root),
    )
    yield Case(
        "pss_intermediate_without_parameters",
        "The same of an intermediate that is part of no path: all that is presented is checked.",
        rule,
        leaf("leaf of rsa root", WORKLOAD, root),
        "CHAIN_INVALID",
        chain=(unused,),
        bundles=prod_bundle(root),
    )


def _self_made() -> Iterator[Case]:
    own = leaf("self-signed leaf", WORKLOAD, None)
    rule = "X509-SVID section 5.1"
    yield Case("self_signed_leaf", "The leaf has signed itself.", rule, own, "CHAIN_INCOMPLETE")
    yield Case(
        "self_signed_leaf_in_bundle",
        "The leaf has signed itself and stands in the bundle, where only signing certificates belong.",
        rule,
        own,
        "CHAIN_INVALID",
        bundles=prod_bundle(PROD, own),
    )
    in_bundle = leaf("leaf in bundle", WORKLOAD, PARTNER)
    yield Case(
        "leaf_in_bundle",
        "The leaf stands in the bundle, its authority does not.",
        rule,
        in_bundle,
        "TRUST_DOMAIN_MISMATCH",
        bundles=prod_bundle(in_bundle),
    )
    yield Case(
        "root_as_leaf",
        "The leaf is the root itself.",
        "X509-SVID section 3.2",
        PROD,
        "SPIFFE_ID_WITHOUT_PATH",
    )
    pathed = authority("root with a path", "prod.example", names=[uri("spiffe://prod.example/root")])
    yield Case(
        "root_with_path_as_leaf",
        "The leaf is a root with the SPIFFE ID of a workload.",
        "X509-SVID section 3.2",
        pathed,
        "SVID_IS_CA",
        bundles=prod_bundle(pathed),
    )


def _trust() -> Iterator[Case]:
    rule = "X509-SVID section 5.2"
    yield Case(
        "cross_domain",
        "The authority of partner.example signed an SVID for prod.example.",
        rule,
        leaf("cross-domain", "spiffe://prod.example/admin", PARTNER),
        "TRUST_DOMAIN_MISMATCH",
    )
    yield Case(
        "cross_domain_by_stranger",
        "A trust domain that may not call signed an SVID for one that may.",
        rule,
        leaf("stranger for prod", "spiffe://prod.example/admin", STRANGER),
        "TRUST_DOMAIN_MISMATCH",
    )
    yield Case(
        "valid_federated",
        "An SVID of a federated trust domain that may call.",
        rule,
        leaf("partner leaf", "spiffe://partner.example/a", PARTNER),
    )
    yield Case(
        "trust_domain_not_allowed",
        "An SVID of a trust domain whose bundle is known, but which may not call.",
        rule,
        leaf("stranger leaf", "spiffe://stranger.example/a", STRANGER),
        "TRUST_DOMAIN_NOT_ALLOWED",
    )
    yield Case(
        "trust_domain_is_a_subdomain",
        "The trust domain is a subdomain of one that may call, which signed it.",
        rule,
        leaf("subdomain", "spiffe://sub.prod.example/a", PROD),
        "TRUST_DOMAIN_NOT_ALLOWED",
    )


def _bundles() -> Iterator[Case]:
    rule = "X509-SVID section 5.2"
    yield Case(
        "bundle_missing",
        "The trust domain may call, but its bundle is not known.",
        rule,
        leaf("absent leaf", "spiffe://absent.example/a", authority("absent root", "absent.example")),
        "TRUST_BUNDLE_MISSING",
    )
    yield Case(
        "bundle_empty",
        "The bundle is empty.",
        rule,
        leaf("leaf of an empty bundle", WORKLOAD, PROD),
        "TRUST_BUNDLE_EMPTY",
        bundles=prod_bundle(),
    )
    yield Case(
        "caller_is_verifier",
        "The caller has the verifier's own SPIFFE ID.",
        "the issuer's own rule: it asks itself for nothing",
        leaf("issuer", VERIFIER_ID, PROD),
        "CALLER_IS_ISSUER",
    )
