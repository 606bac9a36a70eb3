"""The way to the issuer: its addresses, and mutual TLS with each."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from agent_client.cli.diagnosis.finding import Finding, fault, ok
from agent_client.cli.failure import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client import Access, SyncIssuerClient

MAX_ADDRESSES = 16
"""Of one name: more replicas than anybody runs of this, and a minute where each is silent."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address that an issuer's name leads to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(address: str) -> tuple[list[Address], Finding | None]:
    """Return what ``host:port`` leads to, and what is wrong if that is nothing."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        remedy = "Compare the issuer's address with its Service or DNS entry, and this host's resolver."
        return [], fault("address", f"{host} has no address: {error.strerror}", remedy)
    addresses = dict.fromkeys(Address(str(entry[4][0]), int(entry[4][1])) for entry in found)
    return list(addresses)[:MAX_ADDRESSES], None


def reach(
    address: Address, name: str, client_of: Callable[[str], SyncIssuerClient], seconds: float
) -> tuple[Finding, list[Access] | None]:
    """Connect to one address as this workload; return how that went, and what the issuer lets it ask for.

    Args:
        address: Where.
        name: The DNS name that the issuer's certificate has to have.
        client_of: Makes a client for one ``host:port``.
        seconds: How long to try.
    """
    step = f"TLS {address}"
    try:
        with socket.create_connection((address.host, address.port), seconds):
            pass
    except OSError as error:
        why = error.strerror or "no answer"
        return fault(
            step, f"no connection: {why}", "See that the issuer runs there, and that no firewall is between."
        ), None
    try:
        with client_of(str(address)) as client:
            return ok(step, f"proved to be {name}"), client.list_access(timeout=seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what there is to tell
        failure = failure_of(error)
        told = dict(failure.details)
        reason = f" ({told['reason']})" if told.get("reason") else ""
        message = f"{failure.message}{reason}; {_presented(address, seconds)}"
        return fault(step, message, told.get("remedy") or "Mend what is named, then look again."), None


def _presented(address: Address, seconds: float) -> str:
    """Say what certificate is presented at an address. Only to be told: nothing of it is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), seconds) as plain,
            context.wrap_socket(plain) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
            certificate = x509.load_der_x509_certificate(der or b"")
    except (OSError, ValueError):
        return "it presents no certificate"
    names: list[str] = []
    with suppress(ValueError, x509.ExtensionNotFound):
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*san.get_values_for_type(x509.UniformResourceIdentifier), *san.get_values_for_type(x509.DNSName)]
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"
    return f"it presents a certificate of {', '.join(names[:8]) or 'no name'}, good until {until}"
