from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_client.endpoint import ISSUER_DNS_NAME, MOST_ADDRESSES, issuer_endpoint, target
from agent_client.errors import ClientNotConfigured
from issuer_testing import issuer_process

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    "address", ["issuer:8443", "issuer.prod.example:443", "127.0.0.1:1", "[::1]:65535", "unix:443", "host.:1"]
)
def test_takes_host_and_port(address: str) -> None:
    endpoint = issuer_endpoint(address, ISSUER_DNS_NAME, None)
    assert endpoint.addresses == (address,)
    assert target(address) == f"dns:///{address}"


@pytest.mark.parametrize(
    "address",
    [
        "issuer",
        "issuer:",
        ":8443",
        "issuer:0",
        "issuer:65536",
        "issuer:8443/path",
        "https://issuer:8443",
        "dns:///issuer:8443",
        "unix:///run/issuer.sock",
        "::1:8443",
        "a b:1",
        "issuer:8443\n",
        "a,b:1",
    ],
)
def test_refuses_what_is_no_address(address: str) -> None:
    with pytest.raises(ClientNotConfigured, match="host:port"):
        issuer_endpoint(address, ISSUER_DNS_NAME, None)


def test_takes_the_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ISSUER_ADDRESS", "issuer:8443")
    assert issuer_endpoint(None, ISSUER_DNS_NAME, None).addresses == ("issuer:8443",)
    assert issuer_endpoint("other:1", ISSUER_DNS_NAME, None).addresses == ("other:1",)
    monkeypatch.setenv("SPIFFE_ISSUER_ADDRESS", "a:1,b:2")
    assert issuer_endpoint(None, ISSUER_DNS_NAME, None).addresses == ("a:1", "b:2")


@pytest.mark.parametrize("given", ["a:1,[::1]:2", "a:1, [::1]:2", ["a:1", "[::1]:2"], ("a:1", "[::1]:2", "a:1")])
def test_takes_several_addresses_each_once(given: str | Sequence[str]) -> None:
    assert issuer_endpoint(given, ISSUER_DNS_NAME, None).addresses == ("a:1", "[::1]:2")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("a:1,b", "'b'"),
        ("a:1,b:0,c:1", "'b:0'"),
        ("a:1,", "''"),
        (",", "''"),
        ("a:1,,b:1", "''"),
        ("a:1\n,b:1", r"'a:1\\n'"),
        (["a:1", "b:1,c:1"], "'b:1,c:1'"),
        (["a:1", " b:1"], "' b:1'"),
        (["a:1", ""], "''"),
    ],
)
def test_names_the_address_that_is_malformed(given: str | Sequence[str], wrong: str) -> None:
    with pytest.raises(ClientNotConfigured, match=f"^{wrong} is no address"):
        issuer_endpoint(given, ISSUER_DNS_NAME, None)


@pytest.mark.parametrize(("number", "fine"), [(16, True), (17, False)])
def test_takes_so_many_addresses_and_no_more(number: int, fine: bool) -> None:  # noqa: FBT001
    given = [f"issuer-{number}:1" for number in range(number)]
    if fine:
        assert len(issuer_endpoint(given, ISSUER_DNS_NAME, None).addresses) == MOST_ADDRESSES
    else:
        with pytest.raises(ClientNotConfigured, match="16 at most"):
            issuer_endpoint(given, ISSUER_DNS_NAME, None)


def test_an_empty_list_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ISSUER_ADDRESS", raising=False)
    with pytest.raises(ClientNotConfigured, match="SPIFFE_ISSUER_ADDRESS"):
        issuer_endpoint([], ISSUER_DNS_NAME, None)


@pytest.mark.parametrize("value", [None, ""])
def test_says_that_there_is_no_address(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SPIFFE_ISSUER_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("SPIFFE_ISSUER_ADDRESS", value)
    with pytest.raises(ClientNotConfigured, match="SPIFFE_ISSUER_ADDRESS"):
        issuer_endpoint(None, ISSUER_DNS_NAME, None)


@pytest.mark.parametrize("name", ["", "spiffe://prod.example/issuer", "*.internal", "a..b", "-a.b", "a" * 64, "a\n"])
def test_refuses_what_is_no_dns_name(name: str) -> None:
    """An empty one would switch the comparison off: gRPC then expects the address's own name."""
    with pytest.raises(ClientNotConfigured, match="DNS name"):
        issuer_endpoint("issuer:1", name, None)


@pytest.mark.parametrize("name", ["", "spiffe://prod.example", "Prod.example", "prod.example/x"])
def test_refuses_what_is_no_trust_domain(name: str) -> None:
    with pytest.raises(ClientNotConfigured, match="trust domain"):
        issuer_endpoint("issuer:1", ISSUER_DNS_NAME, name)


def test_the_name_is_the_one_that_the_issuers_entry_has() -> None:
    assert ISSUER_DNS_NAME == issuer_process.ISSUER_DNS_NAME
