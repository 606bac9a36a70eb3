"""Every setting of the issuer, as frozen models: one for each section of its file, which ``config.py`` reads.

The comments of ``starter.toml`` explain each setting to the people who set it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from issuer.config_values import (
    LOOPBACK_HOSTS,
    Domain,
    Duration,
    FileOrStdout,
    FilePath,
    Identity,
    Listen,
    Pattern,
    outside_url,
    parsed,
)
from issuer.core.exchange import MAX_DEPTH
from issuer.core.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from pathlib import Path

_OF_A_CLAIM = r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*/\{[A-Za-z0-9_.:-]{1,64}\}$"
"""A SPIFFE ID whose last segment, and no other, is a claim: ``spiffe://people.example/user/{employee}``."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class IssuerSection(_Section):
    """``[issuer]``: who the issuer says it is."""

    url: str

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        # RFC 8414 section 2: https, no query, no fragment. Loopback over http is for development.
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
            raise ValueError("must be an https URL (http only for a loopback address)")
        if not parts.hostname or parts.query or parts.fragment or parts.username or url.endswith(("?", "#")):
            raise ValueError("must be a URL with a host and without user, query and fragment")
        if url.endswith("/"):
            raise ValueError("must not end in '/': verifiers compare `iss` byte for byte")
        return url


class ServerSection(_Section):
    """``[server]``: the gRPC listener."""

    listen: Listen = "127.0.0.1:8443"
    transport: Literal["grpcio", "h2corn", "native"] = "grpcio"
    workers: Annotated[int, Field(ge=0, le=64)] = 1
    max_message_bytes: Annotated[int, Field(ge=4096, le=64 * 1024 * 1024)] = 2 * 1024 * 1024
    max_metadata_bytes: Annotated[int, Field(ge=4096, le=1024 * 1024)] = 16 * 1024
    max_concurrent_streams: Annotated[int, Field(ge=1, le=100_000)] = 256
    max_connection_age: Duration = timedelta(minutes=30)
    max_connection_age_grace: Duration = timedelta(seconds=30)
    shutdown_grace: Duration = timedelta(seconds=10)
    max_turns: Annotated[int, Field(ge=1, le=100_000)] = 96
    max_waiting: Annotated[int, Field(ge=256, le=1_000_000)] = 1024
    max_wait: Duration = timedelta(milliseconds=500)
    max_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    handshake_timeout: Duration = timedelta(seconds=10)
    max_connection_idle: Duration = timedelta(minutes=10)
    keepalive_time: Duration = timedelta(minutes=1)
    keepalive_timeout: Duration = timedelta(seconds=20)
    min_ping_interval: Duration = timedelta(seconds=10)


class SpireSection(_Section):
    """``[spire]``: where our own SVID and the trust bundles come from, and who may call."""

    socket: str | None = None
    spiffe_id: Identity | None = None
    startup_timeout: Duration = timedelta(seconds=60)
    federated_trust_domains: tuple[Domain, ...] = ()


class PolicySection(_Section):
    """``[policy]``: the folder of policy files, or one file, and how it changes."""

    path: FilePath
    watch: bool = True
    generations: Annotated[int, Field(ge=1, le=100)] = 5
    legacy_max_ttl: Duration | None = None


class AuthzenSection(_Section):
    """``[[facts.authzen]]``: a decision point that is asked for facts."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    url: str
    types: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout: Duration = timedelta(milliseconds=500)
    max_response_bytes: Annotated[int, Field(ge=256, le=1024 * 1024)] = 64 * 1024
    cache_ttl: Duration = timedelta(seconds=5)
    failures_to_open: Annotated[int, Field(ge=1, le=1000)] = 5
    open_for: Duration = timedelta(seconds=10)
    ca_file: FilePath | None = None
    token_file: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return outside_url(url)


class FactsSection(_Section):
    """``[facts]``: who tells the issuer what is true of the world."""

    folder: FilePath | None = None
    authzen: tuple[AuthzenSection, ...] = ()


class OidcIssuerSection(_Section):
    """``[[oidc.issuers]]``: an issuer whose tokens say who somebody is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    url: str
    audience: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,2048}$")]
    algorithms: Annotated[tuple[Literal["ES256", "RS256"], ...], Field(min_length=1)] = ("ES256", "RS256")
    jwks_uri: str | None = None
    ca_file: FilePath | None = None
    timeout: Annotated[Duration, Field(le=timedelta(seconds=5))] = timedelta(seconds=3)
    max_key_age: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(days=7))] = timedelta(hours=24)

    @field_validator("url", "jwks_uri")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        return None if url is None else outside_url(url)


class OidcSection(_Section):
    """``[oidc]``: issuers of people's and pipelines' tokens."""

    issuers: tuple[OidcIssuerSection, ...] = ()

    @field_validator("issuers")
    @classmethod
    def _check_once(cls, issuers: tuple[OidcIssuerSection, ...]) -> tuple[OidcIssuerSection, ...]:
        for what, said in (
            ("name", [each.name for each in issuers]),
            ("url and audience", [(each.url, each.audience) for each in issuers]),
        ):
            if len(set(said)) != len(said):
                raise ValueError(f"two issuers have the same {what}")
        return issuers


class KeysSection(_Section):
    """``[keys]``: the signing key."""

    file: FilePath


class LedgerSection(_Section):
    """``[ledger]``: where decisions are kept, and how long a caller waits for that."""

    file: FilePath | None = None
    postgresql: Annotated[str | None, Field(repr=False, validate_default=True)] = None
    max_wait: Duration = timedelta(seconds=2)
    max_waiting: Annotated[int, Field(ge=256, le=1_000_000)] = 10_000
    checkpoints: FilePath | None = None
    checkpoint_every: Duration = timedelta(minutes=1)
    keep: Annotated[Duration, Field(ge=timedelta(hours=1))] | None = None
    recorded_refusals: Annotated[int, Field(ge=1, le=1_000_000)] = 300

    @field_validator("postgresql")
    @classmethod
    def _check_engine(cls, postgresql: str | None, info: ValidationInfo) -> str | None:
        if (postgresql is None) is (info.data.get("file") is None):
            raise ValueError("set one of 'file' (SQLite) and 'postgresql', and not both")
        return postgresql


class DecisionLogSection(_Section):
    """``[decision_log]``: the decisions once more, as lines of JSON for a log shipper."""

    path: FileOrStdout | None = None
    required: bool = False


class AdminSection(_Section):
    """``[admin]``: which SPIFFE IDs may administer."""

    viewers: tuple[Identity, ...] = ()
    operators: tuple[Identity, ...] = ()
    feeders: dict[str, tuple[str, ...]] = {}

    @field_validator("feeders")
    @classmethod
    def _check_feeders(cls, feeders: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for feeder, types in feeders.items():
            parsed(SpiffeId.parse, feeder)
            if not types:
                raise ValueError(f"{feeder}: name the types of fact that it may tell; empty never means all")
        return feeders


class EvidenceSection(_Section):
    """``[[approvals.evidence]]``: which people an OIDC issuer vouches for, and which SPIFFE IDs are theirs."""

    issuer: str
    spiffe_id: Annotated[str | None, Field(pattern=_OF_A_CLAIM)] = None
    people: Annotated[dict[str, str], Field(validate_default=True)] = {}

    @field_validator("people")
    @classmethod
    def _check_people(cls, people: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for spiffe_id, subject in people.items():
            parsed(SpiffeId.parse, spiffe_id)
            if not subject:
                raise ValueError(f"{spiffe_id}: name the `sub` of this person")
        if not people and info.data.get("spiffe_id", "") is None:
            raise ValueError("set 'spiffe_id', 'people' or both: empty never means all")
        return people


class ApprovalsSection(_Section):
    """``[approvals]``: who is told of requests for approval, and what proves that a person answers."""

    webhook_url: str | None = None
    webhook_secret_file: Annotated[FilePath | None, Field(validate_default=True)] = None
    evidence_max_age: Annotated[Duration, Field(le=timedelta(hours=1))] = timedelta(minutes=5)
    gateways: tuple[Identity, ...] = ()
    evidence: tuple[EvidenceSection, ...] = ()

    @field_validator("webhook_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        return None if url is None else outside_url(url)

    @field_validator("webhook_secret_file")
    @classmethod
    def _check_both(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if "webhook_url" in info.data and (file is None) is not (info.data["webhook_url"] is None):
            raise ValueError("set both of 'webhook_url' and 'webhook_secret_file', or neither")
        return file


class ExchangeSection(_Section):
    """``[exchange]``: tokens on behalf of others."""

    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    jwt_svids: bool = False


class IntentsSection(_Section):
    """``[intents]``: what bounds intents."""

    max_window: Annotated[Duration, Field(le=timedelta(days=31))] = timedelta(hours=24)
    max_open: Annotated[int, Field(ge=1, le=100_000)] = 1_000


class HttpSection(_Section):
    """``[http]``: the public listener with the key set and metadata."""

    listen: Listen = "127.0.0.1:8080"
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    behind_tls_proxy: bool = False
    key_set_max_age: Duration = timedelta(minutes=5)


class OauthHttpSection(_Section):
    """``[oauth_http]``: introspection and revocation over HTTP, by mutual TLS."""

    listen: Listen | None = None
    url: Annotated[str | None, Field(validate_default=True)] = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if "listen" in info.data and (url is None) is not (info.data["listen"] is None):
            raise ValueError("set both of 'listen' and 'url', or neither")
        if url is not None and (not outside_url(url).startswith("https:") or url.endswith("/")):
            raise ValueError("must be an https URL that does not end in '/'")
        return url


class StatusSection(_Section):
    """``[status]``: how status lists are published."""

    ttl: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(seconds=30)
    valid_for: Annotated[Duration, Field(validate_default=True)] = timedelta(minutes=10)

    @field_validator("valid_for")
    @classmethod
    def _check_valid_for(cls, valid_for: timedelta, info: ValidationInfo) -> timedelta:
        ttl = info.data.get("ttl")
        if ttl is not None and not 2 * ttl <= valid_for <= timedelta(days=1):
            raise ValueError(
                "must be at least twice 'ttl', or lists run out before they are fetched, and at most a day"
            )
        return valid_for


class MetricsSection(_Section):
    """``[metrics]``: the listener for a monitoring system."""

    listen: Listen | None = None


class TracingSection(_Section):
    """``[tracing]``: where traces go, of which calls, and what they tell."""

    endpoint: str | None = None
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    trusted_callers: tuple[Pattern, ...] = ()
    identities: bool = False
    timeout: Annotated[Duration, Field(le=timedelta(minutes=1))] = timedelta(seconds=5)
    max_queue: Annotated[int, Field(ge=1, le=100_000)] = 2048
    ca_file: FilePath | None = None

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else outside_url(endpoint)


class LogSection(_Section):
    """``[log]``: how the log is written."""

    format: Literal["auto", "json", "console"] = "auto"


class Config(_Section):
    """The whole configuration."""

    issuer: IssuerSection
    server: ServerSection = ServerSection()
    spire: SpireSection = SpireSection()
    policy: PolicySection
    facts: FactsSection = FactsSection()
    oidc: OidcSection = OidcSection()
    admin: AdminSection = AdminSection()
    keys: KeysSection
    ledger: LedgerSection
    decision_log: DecisionLogSection = DecisionLogSection()
    metrics: MetricsSection = MetricsSection()
    approvals: ApprovalsSection = ApprovalsSection()
    exchange: ExchangeSection = ExchangeSection()
    intents: IntentsSection = IntentsSection()
    http: HttpSection = HttpSection()
    oauth_http: OauthHttpSection = OauthHttpSection()
    status: StatusSection = StatusSection()
    log: LogSection = LogSection()
    tracing: TracingSection = TracingSection()

    @field_validator("approvals")
    @classmethod
    def _check_evidence(cls, approvals: ApprovalsSection, info: ValidationInfo) -> ApprovalsSection:
        known = {each.name for each in info.data["oidc"].issuers} if "oidc" in info.data else None
        for each in approvals.evidence:
            if known is not None and each.issuer not in known:
                raise ValueError(f"evidence: there is no [[oidc.issuers]] with the name {each.issuer!r}")
        return approvals

    @field_validator("ledger")
    @classmethod
    def _check_keep(cls, ledger: LedgerSection, info: ValidationInfo) -> LedgerSection:
        policy = info.data.get("policy")
        longest = None if policy is None else policy.legacy_max_ttl
        if ledger.keep is not None and longest is not None and ledger.keep < longest:
            raise ValueError(
                "'keep' must be at least '[policy] legacy_max_ttl': a token whose decision is gone is lost track of"
            )
        return ledger
