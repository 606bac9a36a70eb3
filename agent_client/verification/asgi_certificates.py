"""Where an ASGI application learns which certificate its caller presented: from the server, or from a trusted proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeAlias

from agent_client.verification.certificates import der_of_escaped_pem, der_of_forwarded, der_of_pem

if TYPE_CHECKING:
    from collections.abc import Collection
    from ipaddress import IPv4Network, IPv6Network

CertificateOf: TypeAlias = Callable[[Mapping[str, Any]], bytes | None]
"""From a connection's scope to the leaf certificate of its caller, as DER; ``None`` when it presented none."""


def tls_extension_certificate(scope: Mapping[str, Any]) -> bytes | None:
    """Return the certificate that the server itself got by TLS, where it has the ASGI TLS extension.

    ``None`` where it has not, where the caller presented none, and where the server says that it did not verify it.
    """
    tls = (scope.get("extensions") or {}).get("tls") or {}
    if tls.get("client_cert_error"):
        return None
    leaf = next(iter(tls.get("client_cert_chain") or ()), None)
    return der_of_pem(leaf) if isinstance(leaf, str) else None


def dangerous_envoy_certificate(*, proxies: Collection[str]) -> CertificateOf:
    """Return a way to take the certificate from the ``x-forwarded-client-cert`` of an Envoy in front.

    **Dangerous**: whoever sends that header from one of these addresses presents any certificate they like. Use it only
    where all of this holds:

    * nobody but the proxies can connect from their addresses;
    * each proxy asks for client certificates, verifies them, and has ``forward_client_cert_details: SANITIZE_SET`` with
      ``set_current_client_cert_details: {cert: true}``, so that it drops what the caller sent;
    * the ASGI server does not rewrite peer addresses (uvicorn: ``proxy_headers=False``); otherwise whoever may write
      ``X-Forwarded-For`` chooses the address that is compared here.

    Args:
        proxies: Their addresses or networks, as in ``["10.1.0.7", "fd00::/64"]``.

    Raises:
        ValueError: There are none, one is malformed, or one is every address.
        TypeError: ``proxies`` is one string.
    """
    return _from_header(b"x-forwarded-client-cert", der_of_forwarded, _networks(proxies))


def dangerous_nginx_certificate(*, proxies: Collection[str], header: str) -> CertificateOf:
    """Return a way to take the certificate from a header in which an nginx in front writes it.

    **Dangerous** in the way of :func:`dangerous_envoy_certificate`, and under the same conditions: nginx has
    ``ssl_verify_client on`` and ``proxy_set_header HEADER $ssl_client_escaped_cert`` in every location.

    Args:
        proxies: Their addresses or networks.
        header: The header's name.

    Raises:
        ValueError: There are no proxies, one is malformed or every address, or there is no name.
        TypeError: ``proxies`` is one string.
    """
    if not header.isascii() or not header:
        raise ValueError("name the header that nginx writes the certificate to")
    return _from_header(header.lower().encode(), der_of_escaped_pem, _networks(proxies))


def _from_header(
    name: bytes, read: Callable[[str], bytes | None], proxies: tuple[IPv4Network | IPv6Network, ...]
) -> CertificateOf:
    def certificate_of(scope: Mapping[str, Any]) -> bytes | None:
        if not _is_from(scope.get("client"), proxies):
            return None
        values = [value for header, value in scope["headers"] if header.lower() == name]
        return read(values[0].decode("latin-1")) if len(values) == 1 else None

    return certificate_of


def _is_from(client: object, proxies: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """Return whether the peer is a proxy. A UNIX socket has no address, and so is none."""
    try:
        address = ip_address(client[0])  # type: ignore[index]  # whatever it is, if it has no address it is no proxy
    except (ValueError, TypeError, LookupError):
        return False
    return any(address in network for network in proxies)


def _networks(proxies: Collection[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    if isinstance(proxies, str):
        raise TypeError(f"proxies is a list: write [{proxies!r}]")
    networks = tuple(map(ip_network, proxies))
    if not networks or not all(network.prefixlen for network in networks):
        raise ValueError("name the addresses of the proxies; every address is none")
    return networks
