"""What of the configuration each part is told: a part does not know the configuration."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from issuer.core.admission import Limits
from issuer.core.approval_evidence import Anchor, EvidenceRules
from issuer.core.key_ring import KeyTerms
from issuer.core.spiffe_id import SpiffeId
from issuer.oidc.settings import OidcIssuerSettings
from issuer.public_http.settings import PublicHttpSettings
from issuer.rpc.roles import Roles
from issuer.rpc.settings import RpcSettings
from issuer.status_publishing import Publishing

if TYPE_CHECKING:
    from issuer.config_sections import AdminSection, ApprovalsSection, Config, HttpSection, OidcSection, ServerSection


def roles_of(admin: AdminSection) -> Roles:
    """Return who may administer."""
    return Roles(
        viewers=frozenset(admin.viewers),
        operators=frozenset(admin.operators),
        feeders={SpiffeId.parse(feeder): frozenset(types) for feeder, types in admin.feeders.items()},
    )


def oidc_settings(oidc: OidcSection) -> list[OidcIssuerSettings]:
    """Return the OIDC issuers whose tokens count."""
    return [
        OidcIssuerSettings(**{**dict(section), "algorithms": frozenset(section.algorithms)}) for section in oidc.issuers
    ]


def evidence_rules(approvals: ApprovalsSection) -> EvidenceRules:
    """Return what proves that a person approves."""
    anchors = []
    for each in approvals.evidence:
        prefix, _, claim = (each.spiffe_id or "").rpartition("/")
        anchors.append(Anchor(each.issuer, each.people, prefix, claim.strip("{}")))
    age = int(approvals.evidence_max_age.total_seconds())
    return EvidenceRules(tuple(anchors), age, frozenset(approvals.gateways))


def rpc_settings(server: ServerSection, *, shares_port: bool = False) -> RpcSettings:
    """Return the limits of the gRPC server."""
    return RpcSettings(
        listen=server.listen,
        max_message_bytes=server.max_message_bytes,
        max_metadata_bytes=server.max_metadata_bytes,
        max_concurrent_streams=server.max_concurrent_streams,
        max_connection_age=server.max_connection_age,
        max_connection_age_grace=server.max_connection_age_grace,
        max_connections=server.max_connections,
        handshake_timeout=server.handshake_timeout,
        max_connection_idle=server.max_connection_idle,
        keepalive_time=server.keepalive_time,
        keepalive_timeout=server.keepalive_timeout,
        min_ping_interval=server.min_ping_interval,
        shares_port=shares_port,
    )


def limits_of(server: ServerSection) -> Limits:
    """Return how many calls run, and how many wait for how long."""
    return Limits(server.max_turns, server.max_waiting, server.max_wait.total_seconds())


def http_settings(http: HttpSection) -> PublicHttpSettings:
    """Return what the public listener is told."""
    return PublicHttpSettings(
        listen=http.listen,
        tls_certificate=http.tls_certificate,
        tls_key=http.tls_key,
        behind_tls_proxy=http.behind_tls_proxy,
        key_set_max_age=http.key_set_max_age,
    )


def key_terms(config: Config) -> KeyTerms:
    """Return how long what is published or signed may be kept."""
    ages = config.http.key_set_max_age, config.status.valid_for
    return KeyTerms(*(ceil(age.total_seconds()) for age in ages))


def publishing_of(config: Config) -> Publishing:
    """Return how status lists are published. Whole seconds: a list tells no parts of one."""
    ttl, valid_for = config.status.ttl.total_seconds(), config.status.valid_for.total_seconds()
    return Publishing(config.issuer.url, max(int(ttl), 1), int(valid_for))
