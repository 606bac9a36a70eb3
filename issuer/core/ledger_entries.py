"""What a ledger holds: decisions and events in its chain, and beside it kept policies and signed checkpoints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from issuer.core.record import DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Mapping


class Event(NamedTuple):
    """What happened to the issuer itself, in the same chain as decisions.

    Attributes:
        kind: One of those below.
        time: Microseconds since 1970 UTC.
        actor: The SPIFFE ID of who did it; empty for the issuer itself.
        detail: Canonical JSON.
    """

    kind: str
    time: int
    actor: str
    detail: str


class KeptPolicy(NamedTuple):
    """The files of a policy, compressed, so that decisions by it can be replayed."""

    digest: str
    files: bytes


class Checkpoint(NamedTuple):
    """A signed statement of a head: a JWS in compact serialisation."""

    statement: str


class PrunedTo(NamedTuple):
    """From here on a chain begins after this entry; those up to it may be removed.

    Written together with an event :data:`ENTRIES_PRUNED` that names it, or ``issuer ledger verify`` calls it tampering.
    """

    writer: str
    position: int
    hash: bytes


class RevocationMade(NamedTuple):
    """A revocation. The ledger says when, among all that it holds, it took effect.

    Attributes:
        id: UUIDv7.
        time: Microseconds since 1970 UTC.
        actor: The SPIFFE ID of who made it.
        detail: What it is, as canonical JSON (:mod:`issuer.core.revocation_text`); the ledger itself puts in its
            ``decisions`` and ``version``.
        by_attributes: It hits more than one token, and so decisions depend on it.
        expires_at: Of a single token, its ``exp``.
    """

    id: str
    time: int
    actor: str
    detail: str
    by_attributes: bool
    expires_at: int | None

    def event(self, decisions: int, version: int) -> Event:
        """Return what is chained.

        Args:
            decisions: The ``seq`` of the last decision before it.
            version: Which change of the revocations it is.
        """
        members = json.loads(self.detail) | {"decisions": decisions, "version": version}
        return Event(REVOCATION_MADE, self.time, self.actor, detail(members))


class RevocationLifted(NamedTuple):
    """The end of a stop of issuance.

    Attributes:
        id: Of the revocation.
        time: Microseconds since 1970 UTC.
        actor: The SPIFFE ID of who lifted it.
    """

    id: str
    time: int
    actor: str

    def event(self, version: int) -> Event:
        """Return what is chained; ``version`` is which change of the revocations it is."""
        return Event(REVOCATION_LIFTED, self.time, self.actor, detail({"id": self.id, "version": version}))


class StepTaken(NamedTuple):
    """A step of something that lasts: a request for approval, an intent, a window of access, a status list, the keys.

    Attributes:
        kind: The kind of its event, one of those below.
        of: What it is a step of: one of :data:`STEPS_OF`.
        id: The id of that.
        number: Which step of it this is, from 1; each is taken once.
        time: Microseconds since 1970 UTC.
        actor: The SPIFFE ID of who made it; empty for the issuer itself.
        detail: What it says, as canonical JSON.
        expires_at: When nothing of it matters any more, microseconds since 1970 UTC.
    """

    kind: str
    of: str
    id: str
    number: int
    time: int
    actor: str
    detail: str
    expires_at: int

    def event(self) -> Event:
        """Return what is chained."""
        said = json.loads(self.detail)
        members = {STEPS_OF[self.of]: self.id, "number": self.number, "over": self.expires_at, "said": said}
        return Event(self.kind, self.time, self.actor, detail(members))


class Sweep(NamedTuple):
    """Removes entries that were pruned, and erases personal texts.

    Attributes:
        rows: At most so many entries of each kind.
        personal: The numbers of personal texts that no living entry refers to.
    """

    rows: int
    personal: tuple[int, ...] = ()


Entry: TypeAlias = (
    DecisionRecord | Event | KeptPolicy | Checkpoint | PrunedTo | Sweep | RevocationMade | RevocationLifted | StepTaken
)

APPROVAL: Final = "approval"
INTENT: Final = "intent"
ACCESS: Final = "access"
STATUS: Final = "status"
KEYS: Final = "keys"
STEPS_OF: Final = {APPROVAL: "request", INTENT: "intent", ACCESS: "access", STATUS: "list", KEYS: "keys"}
"""What has steps, and the name of its id in their events."""

WRITER_STARTED: Final = "writer_started"
POLICY_IN_FORCE: Final = "policy_in_force"
FACTS_TOLD: Final = "facts_told"
ENTRIES_PRUNED: Final = "entries_pruned"
REVOCATION_MADE: Final = "revocation_made"
REVOCATION_LIFTED: Final = "revocation_lifted"
REFUSALS_COUNTED: Final = "refusals_counted"
APPROVAL_REQUESTED: Final = "approval_requested"
APPROVAL_GIVEN: Final = "approval_given"
APPROVAL_DENIED: Final = "approval_denied"
APPROVAL_CANCELLED: Final = "approval_cancelled"
ACCESS_STARTED: Final = "access_started"
ACCESS_SEEN: Final = "access_seen"
ACCESS_ENDED: Final = "access_ended"
INTENT_REGISTERED: Final = "intent_registered"
INTENT_CANCELLED: Final = "intent_cancelled"
INTENT_EXPIRED: Final = "intent_expired"
STATUS_BLOCK_TAKEN: Final = "status_block_taken"
KEY_PREPARED: Final = "key_prepared"
KEY_ACTIVATED: Final = "key_activated"
KEY_REMOVED: Final = "key_removed"
KEY_SHARED: Final = "key_shared"
STEPS: Final = {
    **dict.fromkeys((APPROVAL_REQUESTED, APPROVAL_GIVEN, APPROVAL_DENIED, APPROVAL_CANCELLED), APPROVAL),
    **dict.fromkeys((ACCESS_STARTED, ACCESS_SEEN, ACCESS_ENDED), ACCESS),
    **dict.fromkeys((INTENT_REGISTERED, INTENT_CANCELLED, INTENT_EXPIRED), INTENT),
    STATUS_BLOCK_TAKEN: STATUS,
    KEY_SHARED: KEYS,
}
"""The kinds of event that tell of a step, and of what."""


def detail(values: Mapping[str, object]) -> str:
    """Return what an event tells beside its kind, as canonical JSON."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
