"""From what the Workload API gave to the credentials of a channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from agent_client.token_checks import CallerIdentity
from agent_client.workload_api_errors import WorkloadApiError

if TYPE_CHECKING:
    from datetime import datetime

    from agent_client.endpoint import IssuerEndpoint
    from agent_client.x509_context import X509Context, X509Svid


UNACKNOWLEDGED_MS = 5000
"""More than any network takes that is not broken; an issuer that hangs acknowledges all the same."""


class SpiffeIdNotGiven(WorkloadApiError):
    """The Workload API gives this process identities, and not the one that was asked for."""


class SvidOutdated(WorkloadApiError):
    """The SVID has expired, and the Workload API has brought no newer one."""


class TrustBundleMissing(WorkloadApiError):
    """There are no authorities by which the issuer could prove who it is."""


@dataclass(frozen=True, slots=True)
class ChannelMaterial:
    """What a TLS connection to the issuer is made with. Equal material needs no new connection.

    Attributes:
        caller: Who calls with it.
        roots: The authorities of the issuer's trust domain as PEM, and nobody else's.
        certificate_chain: The caller's leaf and intermediates as PEM.
        private_key: The leaf's key as PEM.
    """

    caller: CallerIdentity
    roots: bytes
    certificate_chain: bytes
    private_key: bytes = field(repr=False)


def pick_svid(context: X509Context, spiffe_id: str | None) -> X509Svid:
    """Return the identity to call with: the one with exactly this SPIFFE ID, or the default one without.

    Raises:
        SpiffeIdNotGiven: It is not among those of this process; the message lists them.
    """
    if spiffe_id is None:
        return context.svids[0]  # SPIFFE Workload API section 5.3: the first is the default
    for svid in context.svids:
        if svid.spiffe_id == spiffe_id:
            return svid
    available = ", ".join(svid.spiffe_id for svid in context.svids)
    raise SpiffeIdNotGiven(f"this process has no SVID for {spiffe_id!r}; it has: {available}")


def channel_material(context: X509Context, svid: X509Svid, issuer_trust_domain: str | None) -> ChannelMaterial:
    """Return what to connect with.

    The roots are those of the issuer's trust domain alone: TLS takes any root of its pool for any name, so with a
    federated domain's roots in it, that domain could pass for the issuer.

    Args:
        context: Where the authorities are taken from.
        svid: The identity to call with.
        issuer_trust_domain: The issuer's; ``None`` for that of ``svid``.

    Raises:
        TrustBundleMissing: The Workload API gives no authorities of that trust domain.
    """
    trust_domain = issuer_trust_domain or svid.trust_domain
    authorities = context.bundles.get(trust_domain, ())
    if not authorities:
        raise TrustBundleMissing(
            f"the Workload API gives no authorities of {trust_domain}, the issuer's trust domain: "
            "see that its bundle is not empty and, if it is another domain, that the workload's entry federates with it"
        )
    return ChannelMaterial(
        caller=caller_of(svid),
        roots=b"".join(authority.public_bytes(Encoding.PEM) for authority in authorities),
        certificate_chain=svid.certificate_chain_pem(),
        private_key=svid.private_key_pem(),
    )


def caller_of(svid: X509Svid) -> CallerIdentity:
    """Return who calls with this identity."""
    return CallerIdentity(svid.spiffe_id, svid.certificates[0].fingerprint(SHA256()))


def refuse_outdated(svid: X509Svid, now: datetime, cause: WorkloadApiError | None) -> None:
    """Refuse an SVID that has expired: the issuer would, with an error that says less.

    Args:
        svid: The identity to call with.
        now: The time.
        cause: Why the Workload API brings no newer one, where that is known.

    Raises:
        SvidOutdated: It has expired.
    """
    if svid.not_after <= now:
        why = f": {cause}" if cause else "; look at the SPIRE agent and at this host's clock"
        raise SvidOutdated(
            f"the SVID of {svid.spiffe_id} expired at {svid.not_after:%Y-%m-%d %H:%M:%SZ}{why}"
        ) from cause


def tls_credentials(material: ChannelMaterial) -> grpc.ChannelCredentials:
    """Return credentials for mutual TLS."""
    return grpc.ssl_channel_credentials(material.roots, material.private_key, material.certificate_chain)


def channel_options(endpoint: IssuerEndpoint) -> list[tuple[str, str | int]]:
    """Return the options of every channel to the issuer."""
    return [
        # A DNS name may stand for several issuers. By default gRPC sends all calls to the first that it reaches.
        ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
        # Of every one of them: the name that is expected is the issuer's, not that of the address.
        ("grpc.ssl_target_name_override", endpoint.dns_name),
        # A connection of its own: one of the process-wide pool would outlive the channel and its SVID.
        ("grpc.use_local_subchannel_pool", 1),
        # gRPC waits 1 s after the first failed connection and up to 2 minutes later: longer than a call's deadline.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A network that lost packets for a minute would be tried again half a minute after it is back (TCP doubles its
        # pauses), and after four minutes later than a token lives. With a keepalive, gRPC has the kernel give up a
        # connection whose data nobody acknowledged for so long (tcp(7), TCP_USER_TIMEOUT), and dials anew.
        ("grpc.keepalive_timeout_ms", UNACKNOWLEDGED_MS),
        # The keepalive itself is of no use here: as seldom as servers allow it.
        ("grpc.keepalive_time_ms", 300_000),
    ]
