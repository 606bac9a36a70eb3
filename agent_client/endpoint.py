"""Where the issuer is, and how it is recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_client.errors import ClientNotConfigured
from agent_client.settings import SPIFFE_ISSUER_ADDRESS, from_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

ISSUER_DNS_NAME = "spiffe-issuer.workload.internal"
"""The DNS name of the issuer's registration entry, unless its operator chose another. It authenticates the issuer
(gRPC for Python can require a DNS name of a server, and no SPIFFE ID), so nobody else may have it."""

MOST_ADDRESSES = 16
"""A call may try each once in a round, and each may hold a connection. A larger fleet is given by one DNS name."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")  # RFC 1123 section 2.1
_ADDRESS = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{{1,5}})")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")  # SPIFFE-ID section 2.1
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class IssuerEndpoint:
    """The issuer, as a client is told of it.

    Attributes:
        addresses: ``host:port`` of each, all alike, in no order of preference.
        dns_name: What its certificate must say.
        trust_domain: Whose authorities must have signed that certificate; ``None``: those of the caller's own domain.
    """

    addresses: tuple[str, ...]
    dns_name: str
    trust_domain: str | None


def target(address: str) -> str:
    """Return an address as gRPC takes it, with the scheme: a host called ``unix`` must not become a socket."""
    return f"dns:///{address}"


def issuer_endpoint(address: str | Sequence[str] | None, dns_name: str, trust_domain: str | None) -> IssuerEndpoint:
    """Check what a client is told of the issuer.

    Args:
        address: ``host:port``, several with commas between, or a sequence of them; without it,
            ``SPIFFE_ISSUER_ADDRESS`` decides.
        dns_name: The DNS name of its registration entry.
        trust_domain: Its trust domain without scheme, where that is not the caller's own.

    Raises:
        ClientNotConfigured: One of them is missing or malformed.
    """
    address = address or from_environment(SPIFFE_ISSUER_ADDRESS)
    if not address:
        raise ClientNotConfigured(f"no issuer: give its address as host:port, or set {SPIFFE_ISSUER_ADDRESS}")
    addresses = _addresses(address)
    if not _DNS_NAME.fullmatch(dns_name):
        raise ClientNotConfigured(f"{dns_name!r} is no DNS name; the issuer's is that of its entry, not its SPIFFE ID")
    if trust_domain is not None and not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ClientNotConfigured(f"{trust_domain!r} is no trust domain: write its name alone, as in prod.example")
    return IssuerEndpoint(addresses, dns_name, trust_domain)


def _addresses(address: str | Sequence[str]) -> tuple[str, ...]:
    """Return the addresses, each once.

    Raises:
        ClientNotConfigured: One is malformed; the message names it. Or there are too many.
    """
    given = [part.strip(" ") for part in address.split(",")] if isinstance(address, str) else address
    for one in given:
        match = _ADDRESS.fullmatch(one)
        if match is None or not 1 <= int(match["port"]) <= _HIGHEST_PORT:
            raise ClientNotConfigured(
                f"{one!r} is no address of an issuer: write host:port, without a scheme or path, and commas between"
            )
    addresses = tuple(dict.fromkeys(given))
    if len(addresses) > MOST_ADDRESSES:
        raise ClientNotConfigured(f"{len(addresses)} addresses of an issuer: give {MOST_ADDRESSES} at most")
    return addresses
