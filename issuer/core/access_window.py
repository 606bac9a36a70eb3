"""A window of access: what was granted for a while, and every state of it, as one state machine. Pure.

::

    OPEN ──time──> EXPIRED
      │  ──the caller's last SVID ends and it was not seen with a newer one──> SVID_EXPIRED
      │  ──its caller completes it──> COMPLETED
      │  ──an operator ends it──> ENDED
      │  ──policy, facts, the ticket or the risk would refuse it now──> REFUSED
      └  ──a revocation hits it──> REVOKED

The rules:

 1. What has ended stays as it is.
 2. Time alone ends what has not: nothing has to happen for that. No token of a window outlives it, so what is written
    of such an end afterwards revokes nothing.
 3. Its caller alone completes it, and is seen with a newer SVID; that moves the end of the SVID forward, never the
    window's own.
 4. Operators end it, and the issuer does when it would not grant it any more. Whoever calls looks at their role.

Each step has a number, and the ledger lets each number be taken once: of several issuers that end a window at the same
moment one does, and an end is never written twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.approval_state import Refusal
from issuer.core.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from issuer.core.approval_request import Need

COLLECTION: Final = "accessWindows"
"""What the names of windows begin with (AIP-122)."""
KEPT_AFTER: Final = 3_600 * 1_000_000
"""So long after its time a window is still known, in microseconds: for who looks, and so that two issuers whose clocks
differ do not both write its end."""


class Status(StrEnum):
    """Where a window stands; all but the first are ends."""

    OPEN = "open"
    EXPIRED = "expired"
    SVID_EXPIRED = "svid_expired"
    COMPLETED = "completed"
    ENDED = "ended"
    REFUSED = "refused"
    REVOKED = "revoked"


BY_TIME: Final = frozenset({Status.EXPIRED, Status.SVID_EXPIRED})
"""Ends that nobody has to make: every token of the window is over by then."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What was granted; it never changes. Times are microseconds since 1970 UTC.

    Attributes:
        id: UUIDv7.
        caller: The SPIFFE ID that has access.
        audience: To which API.
        application: On whose behalf; empty for none.
        scopes: What it may do there, in the order of the request.
        intent: What the caller says it will do, as JSON; empty for nothing. Every token of the window is decided by it.
        bind_certificate: The caller asks for tokens bound to its certificate.
        why: Why it needs that now.
        request: The id that makes the same request again the same window; empty for none.
        ttl: For how long it was asked, microseconds; ``None`` for as long as policy lets.
        created: When it began.
        until: When it ends at the latest.
        svid_until: When the SVID ends with which it was asked for.
        decision: The id of the decision that granted it.
        policy: The digest of the policy that did.
        approval: The approval that it rests on, as JSON of :mod:`issuer.core.approval_text`; empty for none.
        needs: What had to be approved, and by whom.
    """

    id: str
    caller: str
    audience: str
    application: str
    scopes: tuple[str, ...]
    intent: str
    bind_certificate: bool
    why: str
    request: str
    ttl: int | None
    created: int
    until: int
    svid_until: int
    decision: str
    policy: str
    approval: str = ""
    needs: tuple[Need, ...] = ()

    @property
    def over_at(self) -> int:
        """When nothing of it matters any more."""
        return self.until + KEPT_AFTER


class StepKind(StrEnum):
    """What can happen to a window."""

    SEEN = "seen"
    END = "end"


class Step(NamedTuple):
    """Something that happens to a window.

    Attributes:
        kind: What.
        by: The SPIFFE ID of who does it; empty for the issuer itself.
        end: Of an end: which.
        why: Of an end: the reason of a refusal, or what an operator says.
        rules: Of a refusal: the rules that came closest; of a revocation: its id.
        svid_until: Of being seen: when the newer SVID ends, microseconds since 1970 UTC.
    """

    kind: StepKind
    by: str
    end: Status | None = None
    why: str = ""
    rules: tuple[str, ...] = ()
    svid_until: int = 0


@dataclass(frozen=True, slots=True)
class AccessWindow:
    """A window of access, and what became of it.

    Attributes:
        opening: What was granted.
        svid_until: When the newest SVID ends with which its caller was seen; microseconds since 1970 UTC.
        number: Of the last step; the opening is the first.
        ended: How it ended; ``None`` as long as nothing but time did.
        ended_at: When.
        ended_by: By whom; empty for the issuer itself.
        ended_why: As in :class:`Step`.
        ended_rules: Likewise.
    """

    opening: Opening
    svid_until: int
    number: int = 1
    ended: Status | None = None
    ended_at: int = 0
    ended_by: str = ""
    ended_why: str = ""
    ended_rules: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its id, a UUIDv7."""
        return self.opening.id

    @property
    def closes_at(self) -> int:
        """When time ends it, as far as is known: no token of it lives longer."""
        return min(self.opening.until, self.svid_until)

    def status_at(self, now: int) -> Status:
        """Return where it stands at a moment (rules 1 and 2)."""
        if self.ended is not None:
            return self.ended
        if now < self.closes_at:
            return Status.OPEN
        return Status.EXPIRED if self.opening.until <= self.svid_until else Status.SVID_EXPIRED

    def is_open(self, now: int) -> bool:
        """Return whether tokens can be had under it."""
        return self.status_at(now) is Status.OPEN


def name_of(window: AccessWindow) -> str:
    """Return a window's name, as callers know it."""
    return f"{COLLECTION}/{window.id}"


def begin(opening: Opening) -> AccessWindow:
    """Return a window that was just opened."""
    return AccessWindow(opening, opening.svid_until)


def apply(window: AccessWindow, step: Step, now: int) -> AccessWindow | Refusal:
    """Return what a step at ``now`` makes of a window, or why it cannot be made."""
    if window.ended is not None:  # 1
        return _over(window.ended)
    return _STEPS[step.kind](window, step, now)


def _seen(window: AccessWindow, step: Step, now: int) -> AccessWindow | Refusal:
    if not window.is_open(now):  # 2
        return _over(window.status_at(now))
    if step.by != window.opening.caller:  # 3
        return Refusal(Reason.ACCESS_UNKNOWN, "another's")
    return replace(window, number=window.number + 1, svid_until=max(window.svid_until, step.svid_until))


def _end(window: AccessWindow, step: Step, now: int) -> AccessWindow | Refusal:
    status = window.status_at(now)
    # 2: by time is what time says, and nothing else ends what time did.
    if step.end in (None, Status.OPEN) or (step.end if step.end in BY_TIME else Status.OPEN) is not status:
        return _over(status)
    if step.end is Status.COMPLETED and step.by != window.opening.caller:  # 3
        return Refusal(Reason.ACCESS_UNKNOWN, "another's")
    return replace(
        window,
        number=window.number + 1,
        ended=step.end,
        ended_at=now,
        ended_by=step.by,
        ended_why=step.why,
        ended_rules=step.rules,
    )


def _over(status: Status) -> Refusal:
    if status is Status.OPEN:
        return Refusal(Reason.REQUEST_INVALID, "this window is open")
    return Refusal(Reason.ACCESS_ENDED, f"this window of access is over: {status.replace('_', ' ')}")


_STEPS: Final[Mapping[StepKind, Callable[[AccessWindow, Step, int], AccessWindow | Refusal]]] = {
    StepKind.SEEN: _seen,
    StepKind.END: _end,
}
