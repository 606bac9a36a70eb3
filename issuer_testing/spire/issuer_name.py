"""The issuer's DNS name: what its callers recognise it by, so nobody else may have it.

gRPC in Python can require a DNS name of a server, not a SPIFFE ID. So whoever gets an SVID with that name passes for
the issuer, and SPIRE's entries decide who that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issuer_testing.spire.server_commands import RegisteredEntry

_SERVICE_LABELS = 2  # service.namespace
_SVC = "svc"


def other_holders(entries: Iterable[RegisteredEntry], dns_name: str, issuer_id: str) -> tuple[RegisteredEntry, ...]:
    """Return the entries that give the issuer's DNS name to somebody else.

    An entry on another node for the issuer's own SPIFFE ID is no second holder: replicas have one each. A wildcard that
    covers the name gives it too, for TLS libraries accept it.

    Args:
        entries: All of them, for example from :meth:`Spire.entries` or ``entries_from_json``.
        dns_name: What the issuer's callers expect.
        issuer_id: The issuer's SPIFFE ID.
    """
    return tuple(
        registered
        for registered in entries
        if registered.entry.spiffe_id != issuer_id
        and any(_covers(given, dns_name) for given in registered.entry.dns_names)
    )


def could_be_kubernetes_service(dns_name: str) -> bool:
    """Return whether SPIRE's controller manager could give this name to the pods behind some Kubernetes Service.

    With ``autoPopulateDNSNames`` a pod gets ``service``, ``service.namespace``, ``service.namespace.svc`` and
    ``service.namespace.svc.<cluster domain>``. (A bare Endpoints object may have dots in its name, and so any name: who
    may write those must be trusted with it, see ``spire-dev/README.md``.)
    """
    labels = dns_name.lower().split(".")
    return len(labels) <= _SERVICE_LABELS or labels[_SERVICE_LABELS] == _SVC


def _covers(given: str, dns_name: str) -> bool:
    """Return whether a certificate with ``given`` passes for ``dns_name`` (RFC 6125 section 6.4.3)."""
    given, wanted = given.lower(), dns_name.lower()
    if given.startswith("*."):
        return wanted.partition(".")[2] == given[2:]
    return given == wanted
