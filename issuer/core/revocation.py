"""What a revocation hits: tokens that were issued, and requests that would lead to more of them.

A revocation names what it hits by attributes of a token. Empty never means all: "everything" is said. It kills every
token that it hits and that was recorded before it took effect; while it *stops issuance*, no token that it would hit is
issued. Lifting it, or its ``until``, ends the stop; the tokens that it killed stay dead.

A revoked key is compromised: whoever has it can sign what we never recorded, with any time. So it kills whatever it
signed, stops issuance by it, and is never lifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.stated_reason import faults_of_why
from issuer.core.token_request import MAX_TTL

if TYPE_CHECKING:
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.spiffe_id import SpiffeId

PRUNED_AFTER_MICROSECONDS: Final = 3_600 * 1_000_000
"""No decision is pruned sooner (``[ledger] keep``). A ledger that is pruned empty counts its decisions anew, so numbers
below a revocation's may come again, but not before this time has passed."""
MAX_TTL_MICROSECONDS: Final = int(MAX_TTL.total_seconds()) * 1_000_000

NAMES: Final = ("token", "basis", "workload", "application", "audience", "rule", "policy", "key")
"""The fields of a selector that name something, the most telling first."""
_BASES: Final = ("approval", "intent", "access", "subject", "actor")
_STOPPABLE: Final = ("basis", "workload", "application", "audience", "rule", "policy", "key")


class Issued(NamedTuple):
    """A token, or one that would be issued, as far as a revocation can tell it from others.

    Attributes:
        caller: Its ``sub``.
        audience: Its ``aud``.
        application: Its ``application``; empty for none.
        rules: The ids of the grants that gave it.
        policy: The digest of the policy that decided.
        key: The ``kid`` that signed it; empty where that is not known.
        time: When it was decided, microseconds since 1970 UTC.
        token_id: Its ``jti``; empty before there is one.
        basis: What it rests on, by name: ``approval/<id>``, ``intent/<id>``, ``access/<id>``, and of a delegated one
            ``subject/<sub>`` and ``actor/<sub>`` of every actor.
        ancestors: The tokens above it, without their own ancestors, which follow.
    """

    caller: SpiffeId
    audience: str
    application: str
    rules: tuple[str, ...]
    policy: str
    key: str
    time: int
    token_id: str = ""
    basis: tuple[str, ...] = ()
    ancestors: tuple[Issued, ...] = ()

    @property
    def line(self) -> tuple[Issued, ...]:
        """The token and those above it: what kills one of them kills it."""
        return (self, *self.ancestors) if self.ancestors else (self,)


@dataclass(frozen=True, slots=True)
class Selector:
    """What a revocation hits: tokens for which all of this is so. :func:`check_selector` says which make sense.

    Attributes:
        token: The ``jti``; of a token above too.
        basis: One of the names of :attr:`Issued.basis`.
        workload: The token's subject.
        application: The application that the token names.
        audience: Its audience.
        rule: A grant that gave it.
        policy: The digest of the policy that decided.
        key: The ``kid`` of the key that signed it.
        everything: Said where nothing else is named.
        issued_from: Decided not before, microseconds since 1970 UTC.
        issued_until: Decided before.
    """

    token: str | None = None
    basis: str | None = None
    workload: WorkloadPattern | None = None
    application: str | None = None
    audience: str | None = None
    rule: str | None = None
    policy: str | None = None
    key: str | None = None
    everything: bool = False
    issued_from: int | None = None
    issued_until: int | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Which of :data:`NAMES` are set."""
        return tuple(name for name in NAMES if getattr(self, name) is not None)

    def hits(self, issued: Issued) -> bool:
        """Return whether this is a token that is meant, or one of those above it is."""
        return self._names(issued) or any(map(self._names, issued.ancestors))

    def _names(self, issued: Issued) -> bool:
        return (
            (self.token is None or self.token == issued.token_id)
            and (self.basis is None or self.basis in issued.basis)
            and (self.audience is None or self.audience == issued.audience)
            and (self.application is None or self.application == issued.application)
            and (self.rule is None or self.rule in issued.rules)
            and (self.policy is None or self.policy == issued.policy)
            and (self.key is None or self.key == issued.key)
            and (self.issued_from is None or self.issued_from <= issued.time)
            and (self.issued_until is None or issued.time < self.issued_until)
            and (self.workload is None or self.workload.matches(issued.caller))
        )


class Lift(NamedTuple):
    """The end of a stop of issuance: when, in microseconds since 1970 UTC, and by whom."""

    time: int
    actor: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation.

    Attributes:
        id: UUIDv7.
        selector: What it hits.
        time: When it was made, microseconds since 1970 UTC.
        actor: The SPIFFE ID of who made it.
        why: For people.
        stops_issuance: No token that it hits is issued until it is lifted.
        until: When that ends by itself, microseconds since 1970 UTC; ``None`` for not.
        tokens_hit: How many living tokens it was found to hit.
        identities_hit: How many SPIFFE IDs had those.
        request: What its maker called the request; empty for nothing.
        expires_at: Of a single token, its ``exp``; else ``None``.
        decisions: The ``seq`` of the last decision that was recorded before it; 0 until it is recorded.
        version: Which change of the ledger's revocations was the last one to it; 0 until it is recorded.
        lifted: When it was lifted; ``None`` for not.
    """

    id: str
    selector: Selector
    time: int
    actor: str
    why: str
    stops_issuance: bool
    until: int | None = None
    tokens_hit: int = 0
    identities_hit: int = 0
    request: str = ""
    expires_at: int | None = None
    decisions: int = 0
    version: int = 0
    lifted: Lift | None = None

    def stops(self, issued: Issued) -> bool:
        """Return whether this token must not be issued at its ``time``."""
        return self.is_stopping(issued.time) and self.selector.hits(issued)

    def is_stopping(self, time: int) -> bool:
        """Return whether issuance of what it hits is stopped at a moment."""
        return self.stops_issuance and self.lifted is None and (self.until is None or time < self.until)

    def kills(self, issued: Issued, seq: int) -> bool:
        """Return whether this token, recorded under ``seq``, is dead."""
        before = seq <= self.decisions and issued.time < self.time + PRUNED_AFTER_MICROSECONDS
        return (before or self.selector.key is not None) and self.selector.hits(issued)

    def matters(self, time: int) -> bool:
        """Return whether it can still hit a living token, or stop one: none lives longer than ``MAX_TTL``."""
        if self.selector.key is not None or self.is_stopping(time):
            return True
        if self.expires_at is not None:
            return time < self.expires_at * 1_000_000
        return time < self.time + MAX_TTL_MICROSECONDS

    @property
    def can_be_lifted(self) -> bool:
        """Whether there is a stop to lift: not of a key, and not of what stopped nothing."""
        return self.stops_issuance and self.selector.key is None


def usually_stops(selector: Selector, now: int) -> bool:
    """Return whether a revocation stops issuance when its maker does not say."""
    return _can_stop(selector, now) and any(name in selector.named for name in _STOPPABLE)


def check_revocation(revocation: Revocation) -> None:
    """Refuse a revocation that means nothing, or something else than its maker may think.

    Raises:
        InvalidTokenRequest: With each fault.
    """
    faults = [*_selector_faults(revocation.selector), *_stop_faults(revocation)]
    if not revocation.why.strip():
        faults.append(FieldViolation("reason", "is required: say why, for those who read the ledger"))
    else:
        faults += faults_of_why(revocation.why)
    if faults:
        raise InvalidTokenRequest(tuple(faults))


def _selector_faults(selector: Selector) -> list[FieldViolation]:
    faults = []
    named = selector.named
    if selector.everything == bool(named):
        faults.append(FieldViolation("selector", "must name something, or else say 'everything'; never both"))
    if "token" in named and (len(named) > 1 or selector.issued_from is not None or selector.issued_until is not None):
        faults.append(FieldViolation("selector.token", "names one token: nothing else narrows that"))
    faults += [FieldViolation(f"selector.{name}", "is empty") for name in named if getattr(selector, name) == ""]
    if selector.basis and selector.basis.partition("/")[0] not in _BASES:
        faults.append(FieldViolation("selector.basis", f"must begin with one of {', '.join(_BASES)}, and a slash"))
    if selector.key is not None and (selector.issued_from is not None or selector.issued_until is not None):
        faults.append(FieldViolation("selector.key", "takes no times: whoever has the key writes any time"))
    begin, end = selector.issued_from, selector.issued_until
    if begin is not None and end is not None and begin >= end:
        faults.append(FieldViolation("selector.issued_until", "must be after 'issued_from'"))
    return faults


def _stop_faults(revocation: Revocation) -> list[FieldViolation]:
    selector, faults = revocation.selector, []
    if revocation.stops_issuance and not _can_stop(selector, revocation.time):
        faults.append(FieldViolation("stops_issuance", "cannot be: nothing that this hits is issued from now on"))
    if not revocation.stops_issuance and selector.key is not None:
        faults.append(FieldViolation("stops_issuance", "is always so for a key"))
    if revocation.until is not None and (not revocation.stops_issuance or selector.key is not None):
        faults.append(FieldViolation("until", "needs a stop of issuance that may end"))
    elif revocation.until is not None and revocation.until <= revocation.time:
        faults.append(FieldViolation("until", "must be in the future"))
    return faults


def _can_stop(selector: Selector, now: int) -> bool:
    return selector.token is None and (selector.issued_until is None or now < selector.issued_until)
