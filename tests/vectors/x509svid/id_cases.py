"""Cases about the SPIFFE ID (SPIFFE-ID section 2, X509-SVID section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.x509svid import der
from vectors.x509svid.case import ALLOWED, BUNDLES, PROD, WORKLOAD, Case, dns, uri
from vectors.x509svid.certificates import Issued, authority, leaf

if TYPE_CHECKING:
    from collections.abc import Iterator

SAN_OID = bytes.fromhex("0603551d11")
LONG_DOMAIN = ".".join(["a" * 63] * 3 + ["b" * 63])
_NOT_CANONICAL = {
    "scheme_upper_case": ("SPIFFE://prod.example/a", "2.2"),
    "scheme_https": ("https://prod.example/a", "2.2"),
    "scheme_alone": ("spiffe:/prod.example/a", "2.2"),
    "trust_domain_upper_case": ("spiffe://PROD.example/a", "2.1"),
    "trust_domain_percent_encoded": ("spiffe://pro%64.example/a", "2.1"),
    "trust_domain_empty": ("spiffe:///a", "2.1"),
    "trust_domain_ipv6": ("spiffe://[::1]/a", "2.1"),
    "trust_domain_non_ascii": ("spiffe://pr\N{CYRILLIC SMALL LETTER O}d.example/a", "2.1"),
    "port": ("spiffe://prod.example:443/a", "2.1"),
    "port_empty": ("spiffe://prod.example:/a", "2.1"),
    "user_info": ("spiffe://admin@prod.example/a", "2.1"),
    "query": ("spiffe://prod.example/a?b=c", "2"),
    "query_empty": ("spiffe://prod.example/a?", "2"),
    "fragment": ("spiffe://prod.example/a#b", "2"),
    "path_percent_encoded": ("spiffe://prod.example/%61", "2.2"),
    "path_percent_encoded_slash": ("spiffe://prod.example/a%2fb", "2.2"),
    "path_empty_segment": ("spiffe://prod.example/a//b", "2.2"),
    "path_begins_with_empty_segment": ("spiffe://prod.example//a", "2.2"),
    "path_dot_segment": ("spiffe://prod.example/a/./b", "2.2"),
    "path_dot_dot_segment": ("spiffe://prod.example/a/../admin", "2.2"),
    "path_ends_with_dot_dot": ("spiffe://prod.example/a/..", "2.2"),
    "path_trailing_slash": ("spiffe://prod.example/a/", "2.2"),
    "path_space": ("spiffe://prod.example/a b", "2.2"),
    "path_newline": ("spiffe://prod.example/a\n", "2.2"),
    "path_nul": ("spiffe://prod.example/admin\0", "2.2"),
    "path_backslash": ("spiffe://prod.example/a\\b", "2.2"),
    "path_colon": ("spiffe://prod.example/a:b", "2.2"),
    "path_tilde": ("spiffe://prod.example/~a", "2.2"),
    "leading_space": (" spiffe://prod.example/a", "2"),
}


def id_cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _accepted()
    for name, (text, section) in _NOT_CANONICAL.items():
        about = f"The URI SAN is {text!r}."
        yield Case(
            f"id_{name}", about, f"SPIFFE-ID section {section}", _with_uri(name, text), "SPIFFE_ID_NOT_CANONICAL"
        )
    for name, text in {"without_path": "spiffe://prod.example", "path_is_a_slash": "spiffe://prod.example/"}.items():
        about = f"The URI SAN is {text!r}: a trust domain, no workload."
        presented = leaf(name, text, PROD)
        yield Case(f"id_{name}", about, "X509-SVID section 3.1", presented, "SPIFFE_ID_WITHOUT_PATH")
    yield from _sizes()
    yield from _names()


def _with_uri(name: str, text: str) -> Issued:
    if text.isascii():
        return leaf(name, text, PROD)
    # An IA5String cannot hold it, so no library makes it: put it there by hand, where as many bytes were.
    stand_in = "z" * len(text.encode())
    return leaf(name, stand_in, PROD, broken=lambda tbs: tbs.replace(stand_in.encode(), text.encode()))


def _accepted() -> Iterator[Case]:
    every = "spiffe://prod.example/ABCDEFGHIJKLM/NOPQRSTUVWXYZ/abcdefghijklm.nopqrstuvwxyz-0123456789_/.../..a/_"
    yield Case(
        "valid_every_path_character",
        "Every character that a path may have, and segments of dots that are not '.' or '..'.",
        "SPIFFE-ID section 2.2",
        leaf("every path character", every, PROD),
    )
    for name, domain in {"like_an_ip_address": "192.0.2.7", "every_character": "a-b_c.0123456789"}.items():
        root = authority(f"{name} root", domain)
        yield Case(
            f"valid_trust_domain_{name}",
            f"The trust domain is {domain}.",
            "SPIFFE-ID section 2.1",
            leaf(f"trust domain {name}", f"spiffe://{domain}/a", root),
            bundles={**BUNDLES, domain: (root,)},
            allowed=(*ALLOWED, domain),
        )


def _sizes() -> Iterator[Case]:
    root = authority("long root", LONG_DOMAIN)
    known = {"bundles": {**BUNDLES, LONG_DOMAIN: (root,)}, "allowed": (*ALLOWED, LONG_DOMAIN)}
    prefix = "spiffe://prod.example/"
    yield Case(
        "valid_id_2048_bytes",
        "The SPIFFE ID has 2,048 bytes.",
        "SPIFFE-ID section 2.3",
        leaf("id of 2048 bytes", prefix + "a" * (2048 - len(prefix)), PROD),
    )
    yield Case(
        "id_2049_bytes",
        "The SPIFFE ID has 2,049 bytes.",
        "SPIFFE-ID section 2.3",
        leaf("id of 2049 bytes", prefix + "a" * (2049 - len(prefix)), PROD),
        "SPIFFE_ID_TOO_LONG",
    )
    yield Case(
        "valid_trust_domain_255_bytes",
        "The trust domain has 255 bytes.",
        "SPIFFE-ID section 2.3",
        leaf("trust domain of 255 bytes", f"spiffe://{LONG_DOMAIN}/a", root),
        **known,  # type: ignore[arg-type]
    )
    yield Case(
        "id_trust_domain_256_bytes",
        "The trust domain has 256 bytes.",
        "SPIFFE-ID section 2.3",
        leaf("trust domain of 256 bytes", f"spiffe://{LONG_DOMAIN}b/a", root),
        "SPIFFE_ID_NOT_CANONICAL",
        **known,  # type: ignore[arg-type]
    )


def _names() -> Iterator[Case]:
    other = uri("spiffe://prod.example/admin")
    only_one = "X509-SVID section 2"
    yield Case(
        "no_san",
        "The leaf has no subjectAltName.",
        only_one,
        leaf("no san", "", PROD, names=()),
        "SVID_URI_SAN_MISSING",
    )
    yield Case(
        "no_uri_san",
        "The leaf has a DNS SAN and no URI SAN.",
        only_one,
        leaf("no uri san", "", PROD, names=[dns("settler.payments.svc")]),
        "SVID_URI_SAN_MISSING",
    )
    yield Case(
        "spiffe_id_as_dns_san",
        "The SPIFFE ID stands in a DNS SAN.",
        only_one,
        leaf("id as dns san", "", PROD, names=[dns(WORKLOAD)]),
        "SVID_URI_SAN_MISSING",
    )
    two = {
        "two_uri_sans": ("The leaf has two SPIFFE IDs.", [uri(WORKLOAD), other]),
        "two_uri_sans_alike": ("The leaf has the same SPIFFE ID twice.", [uri(WORKLOAD), uri(WORKLOAD)]),
        "two_uri_sans_of_two_domains": (
            "The leaf has a SPIFFE ID of its own trust domain and one of another.",
            [uri(WORKLOAD), uri("spiffe://partner.example/admin")],
        ),
        "two_uri_sans_apart": ("Other names stand between the two.", [uri(WORKLOAD), dns("between.example"), other]),
        "second_uri_san_is_no_spiffe_id": (
            "The second URI is a web address.",
            [uri(WORKLOAD), uri("https://a.example")],
        ),
        "first_uri_san_is_no_spiffe_id": ("The first URI is a web address.", [uri("https://a.example"), uri(WORKLOAD)]),
    }
    for name, (about, names) in two.items():
        yield Case(name, about, only_one, leaf(name, "", PROD, names=names), "SVID_URI_SAN_MULTIPLE")
    yield Case(
        "san_extension_twice",
        "The subjectAltName extension stands there twice.",
        "RFC 5280 section 4.2",
        leaf("san twice", WORKLOAD, PROD, broken=_repeated_san),
        "SVID_MALFORMED",
    )


def _repeated_san(tbs: bytes) -> bytes:
    return der.with_extensions_repeated(tbs, SAN_OID)
