"""What the request path needs from outside, each as a port with few methods. ``app.py`` chooses the concrete parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from issuer.core.assertion import Assertion
    from issuer.core.caller import Caller
    from issuer.core.facts import Fact, FactKey, FactType
    from issuer.core.generations import Generation, PolicyStatus
    from issuer.core.identity_use import SharedIdentity
    from issuer.core.jwk import PublicKeySet
    from issuer.core.key_ring import KeyRing
    from issuer.core.ledger_entries import Entry
    from issuer.core.policy import Policy
    from issuer.core.record import DecisionRecord
    from issuer.core.recorded_tokens import Hits, RecordedToken, RevokedToken
    from issuer.core.reports import Denials, ExceptionUse, Granted, Top
    from issuer.core.revocation import Issued, Revocation, Selector
    from issuer.core.revocations import Revocations


class Clock(Protocol):
    """The time, read once for each request."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware in UTC."""
        ...


class Ids(Protocol):
    """Where the ids of tokens, decisions and all else come from."""

    def fresh_id(self, now: datetime) -> str:
        """Return an id that is unguessable, unique, and sorts by time (UUIDv7, RFC 9562 section 5.7).

        An index of the ledger grows at its end alone then. With random ids each token of a commit changed another page.
        """
        ...


class PolicyBook(Protocol):
    """The policy in force."""

    def current(self) -> Policy:
        """Return the policy in force; the same object until a reload swaps it whole.

        Raises:
            TemporarilyUnavailable: POLICY_NOT_LOADED, before the first good load.
        """
        ...


class PolicyAdmin(Protocol):
    """What operators may do to the policy in force."""

    def status(self) -> PolicyStatus:
        """Return which policy is in force, and which are kept."""
        ...

    async def reload(self, *, actor: str) -> Generation:
        """Load the policy's files and put them in force; after a rollback, follow them again.

        Args:
            actor: Who asked, for the ledger.

        Raises:
            AdminRefused: POLICY_INVALID, with every fault; the one in force stays.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; the one in force stays.
        """
        ...

    async def roll_back(self, digest: str, *, actor: str) -> Generation:
        """Put a kept policy in force and hold it.

        Raises:
            AdminRefused: POLICY_UNKNOWN.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; the one in force stays.
        """
        ...


class KeyAdmin(Protocol):
    """What operators may do to the signing keys. Each method returns all of them as they are afterwards.

    Every method raises TemporarilyUnavailable, LEDGER_UNAVAILABLE or SIGNER_UNAVAILABLE, where nothing could be done.
    """

    async def listed(self) -> KeyRing:
        """Change nothing."""
        ...

    async def prepare(self, *, actor: str) -> KeyRing:
        """Make the next key and publish it; where there is one, leave it.

        Raises:
            AdminRefused: KEY_CHANGE_REFUSED: too many are published.
        """
        ...

    async def activate(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Let the next key sign. It signs in every worker when this returns, and no other does.

        Args:
            key_id: Its ``kid``; that of the active key changes nothing.
            force: Though there may be verifiers that do not know it.
            actor: Who asked, for the ledger.

        Raises:
            AdminRefused: KEY_UNKNOWN; KEY_CHANGE_REFUSED: it is not published for long enough, or it is revoked.
        """
        ...

    async def remove(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Publish a key no more: the next one, or one that is retired.

        Args:
            key_id: Its ``kid``; that of a key that is gone changes nothing.
            force: Though there may be tokens that it signed.
            actor: Who asked, for the ledger.

        Raises:
            AdminRefused: KEY_UNKNOWN; KEY_CHANGE_REFUSED: it is active, or tokens that it signed are alive.
        """
        ...


class FactSink(Protocol):
    """Where told facts go."""

    async def put(self, facts: Sequence[Fact], now: datetime) -> None:
        """Take facts, all or nothing. They count in every worker when this returns.

        Raises:
            AdminRefused: TOO_MANY_FACTS.
            TemporarilyUnavailable: It is not known where they count.
        """
        ...

    def feeders(self) -> dict[str, int]:
        """Return how many facts each feeder has told."""
        ...


class FactBook(Protocol):
    """What feeders told."""

    @property
    def asked_outside(self) -> frozenset[str]:
        """The types of fact for which :meth:`known` may ask somebody outside, and wait."""
        ...

    async def known(
        self,
        keys: frozenset[FactKey],
        *,
        fact_types: Mapping[str, FactType],
        now: datetime,
        caller: Caller,
    ) -> Mapping[FactKey, Fact]:
        """Return those facts of ``keys`` that count at ``now``.

        Never raises and never waits longer than its configured deadline: what is late or unreadable is missing.
        """
        ...


class AssertionVerifier(Protocol):
    """What verifies the tokens of configured OIDC issuers."""

    async def verify(self, text: str, now: datetime) -> Assertion:
        """Return what an ID token says. Its ``nonce``, and how old its ``auth_time`` is, are for the caller to look at.

        Raises:
            AssertionRefused: It does not count.
            TemporarilyUnavailable: OIDC_ISSUER_UNAVAILABLE: that cannot be said now.
        """
        ...


class EpochMoved(Exception):
    """What was to be written was decided from revocations that are not the ones that hold now. Nothing was written."""


class ClaimTaken(Exception):
    """What was to be written takes something that was taken meanwhile. Nothing was written.

    Args:
        keys: The claims that are taken.
    """

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__()
        self.keys = keys


class Ledger(Protocol):
    """What was decided and done, kept before anybody is answered."""

    async def write(self, *entries: Entry, within: float | None = None, epoch: int | None = None) -> None:
        """Return when the entries are durable, all of them or none.

        Args:
            entries: At least one.
            within: Seconds that the caller has left; ``None`` for no bound but the configured one.
            epoch: That of the revocations from which they were decided; ``None`` when they depend on none.

        Raises:
            EpochMoved: Other revocations hold by now: decide again.
            ClaimTaken: A use or a step was taken meanwhile: decide again.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It is then not known whether they are kept.
        """
        ...


class RevocationBook(Protocol):
    """The revocations that hold, as far as this issuer knows; the ledger knows whether that is all."""

    @property
    def version(self) -> int:
        """The number of the last change."""
        ...

    @property
    def epoch(self) -> int:
        """The number of the last change that decisions depend on."""
        ...

    def current(self) -> Revocations:
        """Return those that a decision has to be made from; the same object until one of them changes."""
        ...

    @property
    def by_attributes(self) -> Sequence[Revocation]:
        """Those that hit more than one token and can still hit one, the oldest first."""
        ...

    def get(self, revocation_id: str) -> Revocation | None:
        """Return one of :attr:`by_attributes`."""
        ...

    def is_token_revoked(self, token_id: str) -> bool:
        """Return whether this very token was revoked, as long as it would be alive."""
        ...

    def killing(self, issued: Issued, seq: int) -> Revocation | None:
        """Return why a token that was recorded under ``seq`` is dead by its attributes; ``None`` if it lives."""
        ...

    def made_since(self, issued: Issued, time: int) -> Revocation | None:
        """Return a revocation by attributes that hits what is issued and was made at a moment or after it.

        Lifted or not: for what was begun before and is not finished. ``None`` for none.
        """
        ...

    def tokens_after(self, version: int) -> Sequence[RevokedToken]:
        """Return the single tokens that were revoked after a version and may not have expired, in that order."""
        ...

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever there is something new, until the returned function is called."""
        ...


class TokenBook(Protocol):
    """The tokens that the ledger knows of. Reading them holds up no decision.

    Every method raises TemporarilyUnavailable, LEDGER_UNAVAILABLE, when that cannot be read in time.
    """

    async def hits(self, selector: Selector, now: int, listed: int) -> Hits:
        """Return which living tokens a selector hits.

        Args:
            selector: Of which. Its key is not looked at: the ledger does not tell which key signed.
            now: Unix seconds.
            listed: How many to name at most, of tokens and of identities.
        """
        ...

    async def issued(self, token_id: str) -> RecordedToken | None:
        """Return what is recorded of a token; ``None`` when it is not in the ledger."""
        ...

    async def resting(self, now: int, limit: int) -> Sequence[RecordedToken]:
        """Return tokens that were made from others and have not expired at a time in Unix seconds, in no order."""
        ...

    async def revoked_after(self, version: int) -> frozenset[str]:
        """Return the single tokens that were revoked after a version, by the ledger itself rather than from memory."""
        ...

    async def revocations(self, limit: int, before: str | None) -> Sequence[Revocation]:
        """Return revocations, the newest first, of single tokens too; those before an id where one is given."""
        ...


@dataclass(frozen=True, slots=True)
class DecisionsWanted:
    """Which recorded decisions are wanted; ``None`` for all. Times are microseconds since 1970 UTC.

    Attributes:
        since: Not before.
        until: Before.
        caller: The SPIFFE ID, or a workload pattern as policies have them.
        audience: The audience asked for.
        application: The application that was claimed or given.
        scope: One of the scopes asked for.
        grant_type: How it was asked for.
        outcome: Of :class:`~issuer.core.record.Outcome`.
        reason: Why there was no token.
        rule: The id of one of the rules that decided or came closest.
        policy: The digest that decided.
        certificate: The SHA-256 or the serial number of the caller's certificate, hexadecimal.
        peer: The network address, without its port.
        flags: All of these :class:`~issuer.core.record.Flag`.
    """

    since: int | None = None
    until: int | None = None
    caller: str | None = None
    audience: str | None = None
    application: str | None = None
    scope: str | None = None
    grant_type: str | None = None
    outcome: int | None = None
    reason: str | None = None
    rule: str | None = None
    policy: str | None = None
    certificate: str | None = None
    peer: str | None = None
    flags: int = 0


class DecisionBook(Protocol):
    """The recorded decisions, each with its ``seq``. Reading them holds up no decision.

    Every method raises TemporarilyUnavailable, LEDGER_UNAVAILABLE, when they cannot be read in time, and
    InvalidTokenRequest for a pattern that is none.
    """

    async def newest(
        self, wanted: DecisionsWanted, limit: int, before: int | None
    ) -> Sequence[tuple[int, DecisionRecord]]:
        """Return the newest, the newest first; those before a ``seq`` where one is given."""
        ...

    async def after(self, wanted: DecisionsWanted, seq: int, limit: int) -> Sequence[tuple[int, DecisionRecord]]:
        """Return those after a ``seq``, the oldest first."""
        ...

    async def find(self, name: str) -> Sequence[tuple[int, DecisionRecord]]:
        """Return those with this id, or that led to the token with this ``jti``."""
        ...

    async def last_seq(self) -> int:
        """Return the highest ``seq``; 0 when there is none."""
        ...


class ReportBook(Protocol):
    """What many recorded decisions have in common. Times are microseconds since 1970 UTC.

    Every method raises TemporarilyUnavailable, LEDGER_UNAVAILABLE, when that cannot be read in time.
    """

    async def denials(self, since: int, until: int, limit: int) -> Sequence[Denials]:
        """Return refusals by caller, audience and reason, the most frequent first."""
        ...

    async def policy(self, digest: str) -> Policy | None:
        """Return a policy that decided; ``None`` when it is not kept."""
        ...

    async def shared_identities(self, since: int, until: int, min_score: float) -> Sequence[SharedIdentity]:
        """Return identities that seem to be shared, the highest score first."""
        ...

    async def granted(self, since: int, until: int) -> Sequence[Granted]:
        """Return which grants gave which scopes."""
        ...

    async def oldest(self) -> int | None:
        """Return when the oldest decision was made; ``None`` when there is none."""
        ...

    async def top(self, since: int, until: int, now: int, limit: int) -> Top:
        """Return who asks most, for what, and what is alive."""
        ...

    async def exception_uses(self, since: int, until: int) -> Sequence[ExceptionUse]:
        """Return how exceptions were used."""
        ...


class StatusBook(Protocol):
    """Entries of status lists, each for one token."""

    async def take(self, expires_at: int, now: datetime, within: float | None = None) -> int:
        """Return an entry that no other token has: a :attr:`~issuer.core.status_index.StatusIndex.number`.

        Args:
            expires_at: The token's ``exp``.
            now: The time.
            within: Seconds that the caller has left; ``None`` when it did not say.

        Raises:
            TemporarilyUnavailable: STATUS_UNAVAILABLE: there is none in time.
        """
        ...


class Signer(Protocol):
    """The private key that signs tokens, which may be another one from one call to the next."""

    def active(self) -> Signer:
        """Return the key of now: the same for all that goes into one signature."""
        ...

    @property
    def algorithm(self) -> str:
        """The JWS ``alg`` (RFC 7518 section 3.1)."""
        ...

    @property
    def key_id(self) -> str:
        """The JWS ``kid``: the RFC 7638 thumbprint of the public key."""
        ...

    def sign(self, signing_input: bytes) -> bytes:
        """Return the raw JWS signature over ``signing_input`` (for ES256: r || s, RFC 7518 section 3.4).

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, when the key cannot be used.
        """
        ...

    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        """Return the signature over each, in their order: cheaper than one by one.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE; then there is no signature at all.
        """
        ...

    def public_keys(self) -> PublicKeySet:
        """Return every key that a verifier should know."""
        ...

    def known_keys(self) -> PublicKeySet:
        """Return those, and the ones before them, by which no token is verified any more."""
        ...


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the server presents and accepts in a TLS handshake, all PEM.

    ``roots`` is one flat pool over all trust domains that may call. TLS therefore proves only possession of a key that
    *some* of them certified; whose it is, is decided afterwards by :func:`issuer.core.svid.verify_svid`.
    """

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    roots: bytes


class ServerIdentity(Protocol):
    """The issuer's own SVID, for the server's side of TLS."""

    def tls_material(self) -> TlsMaterial:
        """Return the current material; the same object until something changed. Does no I/O: handshakes wait for it."""
        ...
