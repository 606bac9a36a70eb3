"""How many refusals of a caller are recorded one by one, so that nobody can fill the ledger by being refused.

Each SPIFFE ID has a budget of recorded refusals, which fills up again. Past it, refusals that are alike become one
recorded decision and a count, which is written from time to time (``refusals_counted``); and past what may be counted,
or where no two are alike, the caller is told to wait instead of why it is refused. Grants are never touched.

Pure: the time comes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.ledger_entries import REFUSALS_COUNTED, Event, detail

if TYPE_CHECKING:
    from issuer.core.record import DecisionRecord

PERIOD_SECONDS: Final = 300.0
"""An empty budget is full again after so long."""
COUNTED_TO_RECORDED: Final = 10
"""So many times the recorded refusals are counted before the caller is told to wait."""
MAX_KINDS: Final = 16
"""Kinds of refusals of one caller that are counted at once. A program that is refused asks for one thing or a few; more
kinds than that is somebody who tries things out."""
MAX_CALLERS: Final = 10_000
"""Callers that are remembered, at about 400 bytes each, 4 MB; a fleet of that many workloads, all of them refused."""
COUNT_EVERY_SECONDS: Final = 60.0
"""So often counts are written. Each caller adds one event to the ledger then, and afterwards one recorded decision of
each kind: at most 17 entries a minute."""
WAIT_SECONDS: Final = 10.0
"""How long a caller whose refusals are not even counted is told to wait."""


class Keeping(Enum):
    """What is done with a refusal."""

    RECORDED = auto()
    """It is recorded like any other decision."""
    COUNTED = auto()
    """One like it is recorded; it only raises its count."""
    LIMITED = auto()
    """The caller is told to wait."""


class Verdict(NamedTuple):
    """What is done with a refusal, and the id of the decision that stands for it."""

    keeping: Keeping
    decision_id: str


class Kind(NamedTuple):
    """What refusals have in common that are alike."""

    audience: str
    scopes: str
    application: str
    reason: str

    @classmethod
    def of(cls, record: DecisionRecord) -> Kind:
        """Return the kind of a refusal."""
        return cls(record.audience, record.scopes_asked, record.application_asked, record.reason)


@dataclass(slots=True)
class _Counted:
    decision_id: str
    count: int = 0


@dataclass(slots=True)
class _Account:
    recorded: float
    counted: float
    at: float
    limited: int = 0
    kinds: dict[Kind, _Counted] = field(default_factory=dict)


class RefusalBudget:
    """The budgets of all callers. Times are Unix seconds.

    Args:
        recorded: How many refusals of one caller are recorded at once, and again in each :data:`PERIOD_SECONDS`.
        callers: How many callers are remembered; who was refused longest ago is forgotten first.
    """

    def __init__(self, recorded: int, callers: int = MAX_CALLERS) -> None:
        self._recorded = recorded
        self._callers = callers
        self._accounts: dict[str, _Account] = {}

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return len(self._accounts)

    def plan(self, caller: str, now: float) -> RefusalPlan:
        """Begin to judge the refusals of one call; see :class:`RefusalPlan`."""
        account = self._accounts.pop(caller, None)
        if account is None:
            account = _Account(self._recorded, self._recorded * COUNTED_TO_RECORDED, now)
            if len(self._accounts) >= self._callers:
                del self._accounts[self._least_missed()]
        self._accounts[caller] = account
        share = max(now - account.at, 0.0) / PERIOD_SECONDS
        most = self._recorded * COUNTED_TO_RECORDED
        account.recorded = min(account.recorded + share * self._recorded, self._recorded)
        account.counted = min(account.counted + share * most, most)
        account.at = now
        return RefusalPlan(account)

    def take_counts(self, time: int) -> list[Event]:
        """Return what was counted since the last time, one event for each caller, and begin anew.

        Args:
            time: That of the events, microseconds since 1970 UTC.
        """
        events = []
        for caller, account in self._accounts.items():
            counts = [
                {**kind._asdict(), "decision": counted.decision_id, "count": counted.count}
                for kind, counted in account.kinds.items()
                if counted.count
            ]
            if counts or account.limited:
                members = {"refusals": counts, "told_to_wait": account.limited}
                events.append(Event(REFUSALS_COUNTED, time, caller, detail(members)))
            account.kinds, account.limited = {}, 0
        return events

    def _least_missed(self) -> str:
        """Return the caller to forget: refused longest ago, and if possible with nothing counted."""
        return next((name for name, account in self._accounts.items() if not account.kinds), next(iter(self._accounts)))


class RefusalPlan:
    """What would become of the refusals of one call. Nothing counts before :meth:`settle`.

    Calls that are judged at the same time do not see each other; a caller can so exceed its budget by what it has in
    flight, which the limits on calls bound.
    """

    def __init__(self, account: _Account) -> None:
        self._account = account
        self._recorded = 0
        self._limited = 0
        self._first: dict[Kind, str] = {}
        self._counts: dict[Kind, int] = {}

    def judge(self, kind: Kind, decision_id: str) -> Verdict:
        """Say what to do with a refusal whose id would be ``decision_id``."""
        account = self._account
        if account.recorded - self._recorded >= 1:
            self._recorded += 1
            return Verdict(Keeping.RECORDED, decision_id)
        known = self._first.get(kind) or (account.kinds[kind].decision_id if kind in account.kinds else "")
        if not known and len(account.kinds) + len(self._first) < MAX_KINDS:
            self._first[kind] = decision_id
            return Verdict(Keeping.RECORDED, decision_id)
        if known and account.counted - sum(self._counts.values()) >= 1:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            return Verdict(Keeping.COUNTED, known)
        self._limited += 1
        return Verdict(Keeping.LIMITED, "")

    def settle(self) -> None:
        """Take from the budget what was judged: what had to be recorded is durable."""
        account = self._account
        account.recorded -= self._recorded
        account.counted -= sum(self._counts.values())
        account.limited += self._limited
        for kind, decision_id in self._first.items():
            if len(account.kinds) < MAX_KINDS:
                account.kinds.setdefault(kind, _Counted(decision_id))
        for kind, count in self._counts.items():
            if kind in account.kinds:
                account.kinds[kind].count += count
            else:  # its count was written in the meantime
                account.limited += count
