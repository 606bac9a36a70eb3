"""What an issuer begins with, whether it is one process or several."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from issuer.approval_webhook import ApprovalWebhook, read_secret
from issuer.core.errors import IssuerError, TemporarilyUnavailable
from issuer.core.metadata import ServerMetadata
from issuer.key_rotation import KeyRotation
from issuer.key_sharing import KeySharing, KeysNotShared
from issuer.ledger.token_book import LedgerTokenBook
from issuer.ledger_keeping import ledger_reader
from issuer.policy_files.directory import DirectoryPolicyBook
from issuer.public_http.process import PublicHttpProcess
from issuer.settings_of_parts import http_settings, key_terms, roles_of
from issuer.signing.key_folder import KeyFolder
from issuer.signing.signing_keys import SigningKeys

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.key_rotation import KeyFollowers
    from issuer.ledger_keeping import LedgerKeeping
    from issuer.policy_files.directory import KeptGenerations
    from issuer.policy_rollout import PolicyRollout
    from issuer.ports import Clock


class StartupError(Exception):
    """The issuer cannot start. The message says what is wrong and what to do, for a person."""


class Publicity(Protocol):
    """Where an issuer says whether it serves: its public HTTP process, or its supervisor, which has that."""

    @property
    def url(self) -> str:
        """Where that can be read; empty where it is not known."""
        ...

    def start(self) -> None:
        """Begin. Blocks until it can be read."""
        ...

    def set_ready(self, *, ready: bool, reason: str = "") -> None:
        """Say so from now on."""
        ...

    def stop(self) -> None:
        """End."""
        ...


def policy_book(config: Config, now: datetime, *, begin_with: KeptGenerations | None = None) -> DirectoryPolicyBook:
    """Load the policy.

    Raises:
        PolicyInvalid: With every fault.
    """
    return DirectoryPolicyBook(
        config.policy.path,
        now,
        legacy_ceiling=config.policy.legacy_max_ttl,
        feeders=frozenset(roles_of(config.admin).feeders),
        gateways=frozenset(config.approvals.gateways),
        generations=config.policy.generations,
        begin_with=begin_with,
    )


def open_keys(config: Config, clock: Clock) -> SigningKeys:
    """Return the signing keys, after making the first one where there is none.

    Raises:
        KeyFileError: They cannot be used.
        StartupError: What signs is not installed.
    """
    return SigningKeys(key_folder(config).open_or_create(int(clock.now().timestamp())))


def key_folder(config: Config) -> KeyFolder:
    """Return where the signing keys are, to be signed by with what the transport brings along.

    Raises:
        StartupError: That is not installed.
    """
    if config.server.transport != "native":
        return KeyFolder(config.keys.file)
    try:
        from issuer.signing.native_signing import signing_by_native_wheel  # noqa: PLC0415 - it need not be installed
    except ImportError as error:
        raise native_missing(error) from error
    return KeyFolder(config.keys.file, signing_by_native_wheel)


def native_missing(error: ImportError) -> StartupError:
    """Return what to tell where the native transport cannot be loaded."""
    return StartupError(f"[server] transport: the native one cannot be loaded: {error}; `make transport` installs it")


async def begun_rotation(
    config: Config,
    signer: SigningKeys,
    keeping: LedgerKeeping,
    *,
    clock: Clock,
    log: FilteringBoundLogger,
    followers: KeyFollowers | None = None,
) -> KeyRotation:
    """Record which key signs, and return who changes the keys.

    Raises:
        KeyFileError: They cannot be used.
        StartupError: The ledger cannot be written, or issuers that share it have other keys.
    """
    rotation = KeyRotation(
        key_folder(config),
        signer,
        terms=key_terms(config),
        clock=clock,
        sharing=KeySharing(keeping.ledger, keeping.keys, clock),
        revocations=keeping.revocations,
        tokens=LedgerTokenBook(ledger_reader(config.ledger)),
        log=log,
        followers=followers,
    )
    try:
        await rotation.begin()
    except TemporarilyUnavailable as error:
        raise StartupError(f"the ledger: {error.message}") from error
    except KeysNotShared as error:
        raise StartupError(str(error)) from error
    return rotation


def check_keys(rotation: KeyRotation | None) -> None:
    """Say why an issuer stopped whose keys must not be used any more.

    Raises:
        StartupError: They must not: it will not start by them either.
    """
    if rotation is not None and rotation.fault:
        raise StartupError(rotation.fault)


def public_http(config: Config, signer: SigningKeys, log: FilteringBoundLogger) -> PublicHttpProcess:
    """Return the public HTTP process, not yet started; it shows the keys as they change."""
    metadata = ServerMetadata(config.issuer.url, oauth_url=config.oauth_http.url or "")
    http = PublicHttpProcess(http_settings(config.http), metadata=metadata, jwks=signer.public_keys(), log=log)
    signer.watch(lambda: http.publish(signer.public_keys()))
    return http


def webhook_of(
    config: Config, keeping: LedgerKeeping, clock: Clock, log: FilteringBoundLogger
) -> ApprovalWebhook | None:
    """Return who tells a program of requests for approval; ``None`` where none is configured.

    Raises:
        WebhookNotConfigured: Its secret cannot be read.
    """
    approvals = config.approvals
    if approvals.webhook_url is None or approvals.webhook_secret_file is None:
        return None
    secret = read_secret(approvals.webhook_secret_file)
    return ApprovalWebhook(approvals.webhook_url, secret, approvals=keeping.approvals, clock=clock, log=log)


async def begun(rollout: PolicyRollout) -> None:
    """Record which policy the issuer starts with.

    Raises:
        StartupError: The ledger cannot be written.
    """
    try:
        await rollout.begin()
    except TemporarilyUnavailable as error:
        raise StartupError(f"the ledger: {error.message}") from error


async def told_elsewhere(work: Coroutine[object, object, object]) -> None:
    """Run ``work``; its refusal is in the log and in the status already."""
    with suppress(IssuerError):
        await work
