from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from agent_client.verification.asgi_certificates import (
    dangerous_envoy_certificate,
    dangerous_nginx_certificate,
    tls_extension_certificate,
)
from agent_client.verification.certificates import der_of_escaped_pem, der_of_forwarded, der_of_pem
from issuer_testing.spire.authority import Authority

AUTHORITY = Authority("prod.example")
LEAF = AUTHORITY.issue("spiffe://prod.example/settler").leaf
DER = LEAF.public_bytes(Encoding.DER)
PEM = LEAF.public_bytes(Encoding.PEM).decode()
OTHER = AUTHORITY.issue("spiffe://prod.example/other").leaf.public_bytes(Encoding.PEM).decode()
ESCAPED = quote(PEM, safe="")
HASH = hashlib.sha256(DER).hexdigest()


def test_a_pem_text_is_read_as_its_der() -> None:
    assert der_of_pem(PEM) == der_of_pem(PEM.encode()) == der_of_pem("\n" + PEM.replace("\n", "\r\n")) == DER
    assert der_of_escaped_pem(ESCAPED) == DER


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "x",
        PEM + OTHER,
        PEM + "x",
        "x" + PEM,
        PEM.replace("CERTIFICATE", "PUBLIC KEY"),
        PEM.replace("-----END CERTIFICATE-----", ""),
        PEM[:40] + "=" + PEM[40:],
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        PEM.replace("M", "\N{CYRILLIC CAPITAL LETTER EM}", 1),
        PEM + " " * 70_000,
    ],
)
def test_what_is_not_exactly_one_certificate_is_none(pem: str) -> None:
    assert der_of_pem(pem) is None
    assert der_of_escaped_pem(quote(pem)) is None


@pytest.mark.parametrize(
    "value",
    [
        f'Cert="{ESCAPED}"',
        f"Cert={ESCAPED}",
        f'By=spiffe://prod.example/envoy;Hash={HASH};Cert="{ESCAPED}";Subject="CN=a,O=\\"b\\";x";URI=spiffe://prod.example/a',
        f'cert="{ESCAPED}";HASH={HASH.upper()}',
    ],
)
def test_envoys_header_is_read(value: str) -> None:
    assert der_of_forwarded(value) == DER


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"Hash={HASH}",
        f"Hash={'0' * 64};Cert={ESCAPED}",
        f"Hash={HASH};Hash={'0' * 64};Cert={ESCAPED}",
        f"Cert={ESCAPED};Cert={quote(OTHER)}",
        f"Cert={ESCAPED},Cert={quote(OTHER)}",  # two proxies, or a caller that wrote the first one
        f"Cert={ESCAPED},",
        f"Cert={ESCAPED};",
        f'Cert="{ESCAPED}',
        f'Cert="{ESCAPED}"x',
        f'Subject="a;Cert={ESCAPED}',
        f'Subject="a\\";Cert={ESCAPED}"',
        f"Subject={ESCAPED}",
        f"Chain={ESCAPED}",
        ";" * 100 + f"Cert={ESCAPED}",
        "URI=a;" * 100 + f"Cert={ESCAPED}",
        f"Cert={ESCAPED};" + "x" * 70_000,
    ],
    ids=range(17),
)
def test_what_is_not_exactly_one_element_with_one_certificate_is_none(value: str) -> None:
    assert der_of_forwarded(value) is None


@given(st.text(alphabet='Cert=Hash;,"\\%AB ', max_size=60))
def test_whatever_a_header_holds_it_is_read_or_none(value: str) -> None:
    assert der_of_forwarded(value) is None


def tls(**members: Any) -> dict[str, Any]:
    return {"extensions": {"tls": members}}


def test_the_servers_own_certificate_is_the_leaf_of_the_chain() -> None:
    assert tls_extension_certificate(tls(client_cert_chain=[PEM, OTHER], client_cert_error=None)) == DER
    assert tls_extension_certificate(tls(client_cert_chain=(pem for pem in (PEM, OTHER)))) == DER


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"extensions": None},
        {"extensions": {}},
        {"extensions": {"tls": None}},
        tls(),
        tls(client_cert_chain=None),
        tls(client_cert_chain=[]),
        tls(client_cert_chain=["x"]),
        tls(client_cert_chain=[b"x"]),
        tls(client_cert_chain=[PEM], client_cert_error="unable to get local issuer certificate"),
    ],
)
def test_without_a_verified_certificate_there_is_none(scope: dict[str, Any]) -> None:
    assert tls_extension_certificate(scope) is None


def forwarded(client: Any, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"client": client, "headers": list(headers)}


ENVOY = dangerous_envoy_certificate(proxies=["10.1.0.7", "fd00::/64"])
NGINX = dangerous_nginx_certificate(proxies=["10.1.0.7"], header="X-Client-Cert")
XFCC = (b"x-forwarded-client-cert", f"Cert={ESCAPED}".encode())


@pytest.mark.parametrize("client", [("10.1.0.7", 1), ["10.1.0.7", 1], ("fd00::9", 1)])
def test_a_proxys_header_is_believed(client: Any) -> None:
    assert ENVOY(forwarded(client, XFCC)) == DER


def test_nginxs_header_is_believed() -> None:
    assert NGINX(forwarded(("10.1.0.7", 1), (b"x-client-cert", ESCAPED.encode()))) == DER


@pytest.mark.parametrize(
    "client", [None, (), ("",), ("10.1.0.8", 1), ("testclient", 5), ("::ffff:10.1.0.7", 1), (None,), 7]
)
def test_anybody_elses_header_is_not_believed(client: Any) -> None:
    assert ENVOY(forwarded(client, XFCC)) is None


def test_two_header_lines_are_not_believed() -> None:
    """The first one may be the caller's, if the proxy only adds."""
    assert ENVOY(forwarded(("10.1.0.7", 1), XFCC, XFCC)) is None
    assert ENVOY(forwarded(("10.1.0.7", 1), (b"X-Forwarded-Client-Cert", XFCC[1]), XFCC)) is None
    assert ENVOY(forwarded(("10.1.0.7", 1))) is None


@pytest.mark.parametrize(
    "proxies", [[], ["0.0.0.0/0"], ["::/0"], ["10.1.0.7", "0.0.0.0/0"], ["proxy.example"], ["10.1.0.7/8"]]
)
def test_proxies_have_to_be_named(proxies: list[str]) -> None:
    with pytest.raises(ValueError):
        dangerous_envoy_certificate(proxies=proxies)


def test_one_string_is_no_list_of_proxies() -> None:
    with pytest.raises(TypeError, match="is a list"):
        dangerous_nginx_certificate(proxies="10.1.0.7", header="x-client-cert")


def test_nginxs_header_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="name the header"):
        dangerous_nginx_certificate(proxies=["10.1.0.7"], header="")
