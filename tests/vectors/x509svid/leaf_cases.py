"""Cases about the leaf: what it is, what its key is for, when it is valid (X509-SVID sections 3 to 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from vectors.x509svid import der
from vectors.x509svid.case import (
    FUTURE,
    PAST,
    PROD,
    WORKLOAD,
    Case,
    dns,
    prod_bundle,
    uri,
)
from vectors.x509svid.certificates import (
    authority,
    leaf,
)

from issuer_testing.spire.authority import BOTH_USAGES, NO_SUBJECT, key_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_USAGE_OID = bytes.fromhex("0603551d0f")
CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
SECOND = timedelta(seconds=1)
# Basic constraints, whole: critical and empty; and with the same length, but not critical, a path length of 0.
NO_CA = bytes.fromhex("300c0603551d130101ff04023000")
NO_CA_BUT_A_PATH_LENGTH = bytes.fromhex("300c0603551d1304053003020100")


def leaf_cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _accepted_names()
    yield from _accepted_extensions()
    yield from _usage()
    yield from _form()
    yield from _validity()


def _accepted_names() -> Iterator[Case]:
    yield Case(
        "valid_spire", "What SPIRE 1.15 issues without DNS names.", "X509-SVID", leaf("spire leaf", WORKLOAD, PROD)
    )
    names = [uri(WORKLOAD), dns("settler.payments.svc"), dns("settler")]
    yield Case(
        "valid_dns_sans", "DNS SANs beside the SPIFFE ID.", "X509-SVID section 2", leaf("dns", "", PROD, names=names)
    )
    mixed = [
        x509.RFC822Name("settler@prod.example"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "settler")])),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x07settler"),
        x509.RegisteredID(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2")),
        uri(WORKLOAD),
    ]
    yield Case(
        "valid_other_san_types",
        "An email address, a directory name, an other name and a registered ID beside the SPIFFE ID.",
        "X509-SVID section 2",
        leaf("other sans", "", PROD, names=mixed),
    )
    yield Case(
        "valid_empty_subject",
        "The subject is empty, the subjectAltName critical.",
        "X509-SVID section 3.1",
        leaf("empty subject", WORKLOAD, PROD, subject=NO_SUBJECT),
    )
    yield Case(
        "valid_critical_san",
        "The subjectAltName is critical beside a subject.",
        "RFC 5280 section 4.2.1.6",
        leaf("critical san", WORKLOAD, PROD, names_critical=True),
    )


def _accepted_extensions() -> Iterator[Case]:
    yield Case(
        "valid_no_extended_key_usage",
        "The leaf has no extended key usage.",
        "X509-SVID section 4.4",
        leaf("no extended key usage", WORKLOAD, PROD, purposes=None),
    )
    purposes = [*BOTH_USAGES, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    yield Case(
        "valid_more_extended_key_usages",
        "The extended key usage has a third purpose.",
        "X509-SVID section 4.4",
        leaf("more extended key usages", WORKLOAD, PROD, purposes=purposes),
    )
    yield Case(
        "valid_no_basic_constraints",
        "The leaf has no basic constraints; cA is false by default.",
        "RFC 5280 section 4.2.1.9",
        leaf("no basic constraints", WORKLOAD, PROD, constraints=None),
    )
    yield Case(
        "valid_unknown_extension",
        "The leaf has an unknown extension that is not critical.",
        "RFC 5280 section 4.2",
        leaf("unknown extension", WORKLOAD, PROD, extra=[(UNKNOWN, False)]),
    )
    yield Case(
        "valid_critical_extended_key_usage",
        "The extended key usage is critical.",
        "X509-SVID section 4.4",
        leaf(
            "critical eku",
            WORKLOAD,
            PROD,
            purposes=None,
            extra=[(x509.ExtendedKeyUsage(BOTH_USAGES), True)],
        ),
    )
    yield Case(
        "valid_serial_number_1",
        "The serial number is 1.",
        "RFC 5280 section 4.1.2.2",
        leaf("serial number 1", WORKLOAD, PROD, broken=lambda tbs: der.with_child(tbs, 1, b"\x02\x01\x01")),
    )
    longest = der.encode(der.INTEGER, b"\x7f" + b"\xff" * 19)
    yield Case(
        "valid_serial_number_20_bytes",
        "The serial number is the greatest one of 20 bytes.",
        "RFC 5280 section 4.1.2.2",
        leaf("long serial number", WORKLOAD, PROD, broken=lambda tbs: der.with_child(tbs, 1, longest)),
    )
    yield Case(
        "valid_no_key_identifiers",
        "Neither leaf nor root has key identifiers.",
        "RFC 5280 section 6.1",
        leaf("no key identifiers", WORKLOAD, (root := authority("bare root", "prod.example", key_identifiers=False))),
        bundles=prod_bundle(root),
    )


_USAGE_FAULTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "leaf_is_ca": ("The leaf is a CA.", "5.2", {"constraints": CA_TRUE}, "SVID_IS_CA"),
    "leaf_is_ca_not_critical": (
        "The leaf is a CA by basic constraints that are not critical.",
        "5.2",
        {"constraints": CA_TRUE, "constraints_critical": False},
        "SVID_IS_CA",
    ),
    "leaf_may_sign_certificates": (
        "The leaf's key usage has keyCertSign.",
        "5.2",
        {"usage": key_usage("digital_signature", "key_cert_sign")},
        "SVID_KEY_USAGE_CERT_SIGN",
    ),
    "leaf_may_sign_crls": (
        "The leaf's key usage has cRLSign.",
        "5.2",
        {"usage": key_usage("digital_signature", "crl_sign")},
        "SVID_KEY_USAGE_CRL_SIGN",
    ),
    "key_usage_missing": ("The leaf has no key usage.", "4.3", {"usage": None}, "SVID_KEY_USAGE_MISSING"),
    "key_usage_not_critical": (
        "The leaf's key usage is not critical.",
        "4.3",
        {"usage_critical": False},
        "SVID_KEY_USAGE_NOT_CRITICAL",
    ),
    "key_usage_without_digital_signature": (
        "The leaf's key usage lacks digitalSignature.",
        "4.3",
        {"usage": key_usage("key_encipherment", "key_agreement")},
        "SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE",
    ),
    "extended_key_usage_client_only": (
        "The extended key usage has clientAuth alone.",
        "4.4",
        {"purposes": [ExtendedKeyUsageOID.CLIENT_AUTH]},
        "SVID_EXTENDED_KEY_USAGE",
    ),
    "extended_key_usage_server_only": (
        "The extended key usage has serverAuth alone.",
        "4.4",
        {"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]},
        "SVID_EXTENDED_KEY_USAGE",
    ),
    "extended_key_usage_any": (
        "The extended key usage is anyExtendedKeyUsage, which is not both of TLS's by name.",
        "4.4",
        {"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        "SVID_EXTENDED_KEY_USAGE",
    ),
}


def _usage() -> Iterator[Case]:
    for name, (about, section, changes, reason) in _USAGE_FAULTS.items():
        yield Case(name, about, f"X509-SVID section {section}", leaf(name, WORKLOAD, PROD, **changes), reason)


_FORM_FAULTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "empty_subject_san_not_critical": (
        "The subject is empty, and the subjectAltName not critical.",
        "X509-SVID section 3.1",
        {"subject": NO_SUBJECT, "names_critical": False},
        "SVID_URI_SAN_NOT_CRITICAL",
    ),
    "unknown_critical_extension": (
        "The leaf has a critical extension that nobody knows.",
        "RFC 5280 section 4.2",
        {"extra": [(UNKNOWN, True)]},
        "SVID_MALFORMED",
    ),
    "leaf_has_name_constraints": (
        "The leaf has critical name constraints, which belong to signing certificates.",
        "X509-SVID section 4.2",
        {"extra": [(x509.NameConstraints([uri("prod.example")], None), True)]},
        "SVID_MALFORMED",
    ),
    "key_usage_extension_twice": (
        "The key usage extension stands there twice.",
        "RFC 5280 section 4.2",
        {"broken": lambda tbs: der.with_extensions_repeated(tbs, KEY_USAGE_OID)},
        "SVID_MALFORMED",
    ),
    "version_2": (
        "The certificate says version 2, and has extensions.",
        "RFC 5280 section 4.1.2.1",
        {"broken": lambda tbs: der.with_child(tbs, 0, b"\xa0\x03\x02\x01\x01")},
        "SVID_MALFORMED",
    ),
    "version_4": (
        "The certificate says version 4, which does not exist.",
        "RFC 5280 section 4.1.2.1",
        {"broken": lambda tbs: der.with_child(tbs, 0, b"\xa0\x03\x02\x01\x03")},
        "SVID_MALFORMED",
    ),
    "serial_number_negative": (
        "The serial number is negative.",
        "RFC 5280 section 4.1.2.2",
        {"broken": lambda tbs: der.with_child(tbs, 1, der.encode(der.INTEGER, b"\xff"))},
        "SVID_MALFORMED",
    ),
    "serial_number_zero": (
        "The serial number is 0.",
        "RFC 5280 section 4.1.2.2",
        {"broken": lambda tbs: der.with_child(tbs, 1, der.encode(der.INTEGER, b"\x00"))},
        "SVID_MALFORMED",
    ),
    "serial_number_21_bytes": (
        "The serial number has 21 bytes, the first one for the sign.",
        "RFC 5280 section 4.1.2.2",
        {"broken": lambda tbs: der.with_child(tbs, 1, der.encode(der.INTEGER, b"\x00\x80" + bytes(19)))},
        "SVID_MALFORMED",
    ),
    "path_length_in_leaf": (
        "The leaf's basic constraints have a path length without cA.",
        "RFC 5280 section 4.2.1.9",
        {"broken": lambda tbs: tbs.replace(NO_CA, NO_CA_BUT_A_PATH_LENGTH)},
        "SVID_MALFORMED",
    ),
}


def _form() -> Iterator[Case]:
    for name, (about, rule, changes, reason) in _FORM_FAULTS.items():
        yield Case(name, about, rule, leaf(name, WORKLOAD, PROD, **changes), reason)
    yield from _unreadable_names()


def _unreadable_names() -> Iterator[Case]:
    common_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "settler")])
    yield Case(
        "directory_name_malformed",
        "A directory name among the SANs has a BIT STRING for a common name.",
        "RFC 5280 section 4.2.1.6",
        leaf(
            "malformed directory name",
            WORKLOAD,
            PROD,
            names=[x509.DirectoryName(common_name), uri(WORKLOAD)],
            broken=lambda tbs: tbs.replace(b"\x0c\x07settler", b"\x03\x07\x00ettler"),
        ),
        "SVID_MALFORMED",
    )
    yield Case(
        "subject_malformed",
        "The subject has a BIT STRING for a common name.",
        "RFC 5280 section 4.1.2.6",
        leaf(
            "malformed subject",
            WORKLOAD,
            PROD,
            subject=common_name,
            broken=lambda tbs: tbs.replace(b"\x0c\x07settler", b"\x03\x07\x00ettler"),
        ),
        "SVID_MALFORMED",
    )
    yield Case(
        "x400_address_among_the_sans",
        "The SANs hold an X.400 address, which nobody has used for decades and this verifier does not parse.",
        "the verifier's own choice",
        leaf(
            "x400",
            WORKLOAD,
            PROD,
            names=[uri(WORKLOAD), dns("settler")],
            broken=lambda tbs: tbs.replace(b"\x82\x07settler", b"\xa3\x07\x30\x05\x30\x03\x61\x01\x00"),
        ),
        "SVID_MALFORMED",
    )


def _validity() -> Iterator[Case]:
    start, end = datetime(2026, 6, 1, 12, tzinfo=UTC), datetime(2026, 6, 1, 13, tzinfo=UTC)
    presented = leaf("an hour", WORKLOAD, PROD, valid=(start, end))
    rule = "RFC 5280 section 4.1.2.5"
    yield Case("expired", "The leaf expired in 2021.", rule, leaf("old", WORKLOAD, PROD, valid=PAST), "SVID_EXPIRED")
    yield Case(
        "not_yet_valid",
        "The leaf is valid from 2124 on.",
        rule,
        leaf("future", WORKLOAD, PROD, valid=FUTURE),
        "SVID_NOT_YET_VALID",
    )
    moments = {
        "not_yet_valid_by_a_second": ("The clock is a second before notBefore.", start - SECOND, "SVID_NOT_YET_VALID"),
        "valid_first_second": ("The clock is at notBefore, which is part of the validity period.", start, None),
        "valid_last_second": ("The clock is at notAfter, which is part of the validity period.", end, None),
        "expired_by_a_second": ("The clock is a second after notAfter.", end + SECOND, "SVID_EXPIRED"),
    }
    for name, (about, now, reason) in moments.items():
        yield Case(name, about, rule, presented, reason, now=now, any_time=False)
