"""The cache against a simple model, in any order of events."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.kept_tokens import READER, SETTLER, SETTLER_ROTATED, arrival, request_number, token

from agent_client.errors import IssuerUnavailable, LimitExceeded, PolicyDenied, SvidRejected
from agent_client.tokens.cache import _PLAN_SLACK, NEVER, REFUSALS_APART, TokenCache

if TYPE_CHECKING:
    from agent_client.answers import IssuedToken
    from agent_client.token_checks import CallerIdentity

KEYS = st.integers(0, 2)
MINUTE = timedelta(minutes=1)
FAILURES = {
    "denied": (PolicyDenied("no"), 0.5),
    "denied for a minute": (PolicyDenied("no", retry_after=MINUTE), 60.0),
    "svid refused": (SvidRejected("no"), 0.5),
    "limited": (LimitExceeded("no", retry_after=MINUTE), 60.0),
    "away": (IssuerUnavailable("no"), 0.0),
    "away for a minute": (IssuerUnavailable("no", retry_after=MINUTE), 60.0),
}
"""Errors, and the seconds for which nobody may ask again at least."""


class Keeper:
    """Stands for a source with keep_fresh."""


@dataclass(eq=False)
class Flight:
    """A call under way: who asks, since when, and whether this workload had another name meanwhile."""

    caller: CallerIdentity
    sent_at: float
    outdated: bool = False


@dataclass
class Known:
    """What the model knows of one key."""

    flight: Flight | None = None
    token: IssuedToken | None = None
    owner: CallerIdentity | None = None
    good_until: float = 0.0
    not_before: float = 0.0
    why: str = ""
    keepers: list[Keeper] = field(default_factory=list)
    goes_on: bool = False

    def drop(self) -> None:
        self.token = self.owner = None


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache: TokenCache[Flight] = TokenCache()
        self.entries = [self.cache.entry(request_number(number)) for number in range(3)]
        self.known = [Known() for _ in range(3)]
        self.now = 1000.0
        self.caller: CallerIdentity | None = SETTLER
        self.cache.caller_changed(SETTLER, self.now)

    # --- What is checked

    def begin(self, key: int) -> None:
        """A call begins: the only one of its entry, as somebody, and not before it may."""
        known = self.known[key]
        assert known.flight is None
        assert self.now >= known.not_before
        if self.caller is None:
            return
        known.flight = Flight(self.caller, self.now)
        self.cache.take_off(self.entries[key], known.flight)

    def is_good(self, known: Known) -> bool:
        return known.token is not None and self.now < known.good_until and self.fits(known.token, known.owner)

    def fits(self, issued: IssuedToken, owner: CallerIdentity | None) -> bool:
        if self.caller is None or owner is None or owner.spiffe_id != self.caller.spiffe_id:
            return False
        return not issued.certificate_bound or owner == self.caller

    @invariant()
    def what_is_planned_is_bounded(self) -> None:
        assert len(self.cache._plan) <= _PLAN_SLACK + 2 * len(self.entries)

    @invariant()
    def what_is_kept_fresh_goes_on(self) -> None:
        for key, known in enumerate(self.known):
            if known.goes_on and known.keepers and known.flight is None:
                assert self.entries[key].due_at is not None

    # --- What happens

    @rule(key=KEYS)
    def ask(self, key: int) -> None:
        known, entry = self.known[key], self.entries[key]
        try:
            answer = self.cache.look(entry, self.now)
        except (PolicyDenied, LimitExceeded, SvidRejected, IssuerUnavailable) as refused:
            assert self.now < entry.refused_until
            assert type(refused) is type(FAILURES[known.why][0])  # noqa: PT017
            assert not self.is_good(known)
            return
        if self.is_good(known):
            assert answer is known.token
        elif known.flight is not None:
            assert answer is known.flight
        else:
            assert answer is None
            self.begin(key)

    @rule(key=KEYS)
    def use_without_a_look(self, key: int) -> None:
        """The way of get() that takes no lock."""
        known, entry = self.known[key], self.entries[key]
        if self.now < entry.fresh_until and (issued := entry.good) is not None:
            entry.used = True
            assert issued is known.token
            assert self.is_good(known)

    @rule()
    def renew_what_is_due(self) -> None:
        while (entry := self.cache.due(self.now)) is not None:
            key = self.entries.index(entry)
            if self.caller is None:
                self.cache.take_off(entry, Flight(SETTLER, self.now))
                self.cache.abandoned(entry, self.now)
            else:
                self.begin(key)

    @precondition(lambda self: any(known.flight for known in self.known))
    @rule(
        data=st.data(),
        lifetime=st.sampled_from([1.0, 30.0, 300.0]),
        advised=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        bound=st.booleans(),
    )
    def arrive(self, data: st.DataObject, lifetime: float, advised: float, *, bound: bool) -> None:
        key, known, flight = self.some_flight(data)
        issued = token(lifetime, lifetime * advised, bound=bound)
        usable = self.cache.arrived(
            self.entries[key], arrival(issued, flight.sent_at, flight.caller), self.caller, self.now
        )
        assert usable == (self.fits(issued, flight.caller) and self.now < flight.sent_at + lifetime)
        if usable:
            known.token, known.owner, known.good_until = issued, flight.caller, flight.sent_at + lifetime
        self.end(known)

    @precondition(lambda self: any(known.flight for known in self.known))
    @rule(data=st.data(), why=st.sampled_from(list(FAILURES)))
    def fail(self, data: st.DataObject, why: str) -> None:
        key, known, flight = self.some_flight(data)
        error, pause = FAILURES[why]
        self.cache.failed(self.entries[key], error, self.now)
        self.end(known)
        if not flight.outdated:
            known.not_before, known.why = self.now + pause, why

    @precondition(lambda self: any(known.flight for known in self.known))
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        key, known, _ = self.some_flight(data)
        self.cache.abandoned(self.entries[key], self.now)
        self.end(known)

    def some_flight(self, data: st.DataObject) -> tuple[int, Known, Flight]:
        key = data.draw(st.sampled_from([key for key, known in enumerate(self.known) if known.flight]))
        flight = self.known[key].flight
        assert flight is not None
        assert self.cache.flights().count(flight) == 1
        return key, self.known[key], flight

    @staticmethod
    def end(known: Known) -> None:
        known.flight, known.not_before, known.why = None, 0.0, ""
        known.goes_on = bool(known.keepers)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, REFUSALS_APART, 29.0, 60.0, 300.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS)
    def refuse_the_token(self, key: int) -> None:
        known, entry = self.known[key], self.entries[key]
        if known.token is None:
            return
        within = self.now < entry.dropped_at + REFUSALS_APART
        self.cache.invalidate(entry, known.token, self.now)
        if not within:
            known.drop()

    @rule(caller=st.sampled_from([SETTLER, SETTLER_ROTATED, READER, None]))
    def become(self, caller: CallerIdentity | None) -> None:
        before, self.caller = self.caller, caller
        self.cache.caller_changed(caller, self.now)
        for known in self.known:
            if known.token is not None and not self.fits(known.token, known.owner):
                known.drop()
            another = before and (caller is None or caller.spiffe_id != before.spiffe_id)
            if another or (before != caller and known.why == "svid refused"):
                known.not_before, known.why = 0.0, ""
            if another and known.flight is not None:
                known.flight.outdated = True

    @rule(key=KEYS)
    def keep_fresh(self, key: int) -> None:
        keeper = Keeper()
        self.known[key].keepers.append(keeper)
        self.entries[key].keepers.add(keeper)

    @rule(key=KEYS)
    def let_go(self, key: int) -> None:
        self.known[key].keepers.clear()
        self.known[key].goes_on = False

    @rule()
    def forget(self) -> None:
        """The child of a fork: what was under way is not any more."""
        self.cache.forget()
        keepers = [known.keepers for known in self.known]
        self.known = [Known(keepers=kept) for kept in keepers]
        self.cache.caller_changed(self.caller, self.now)
        assert self.cache.next_due() == NEVER
        assert self.cache.flights() == []

    def teardown(self) -> None:
        """Nobody uses them any more: they lapse, and are freed."""
        for key, known in enumerate(self.known):
            if known.flight is not None:
                self.cache.abandoned(self.entries[key], self.now)
            known.keepers.clear()
        for entry in self.entries:
            entry.used = False
        self.entries.clear()
        assert self.cache.due(self.now + 3600) is None
        del entry
        gc.collect()
        assert len(self.cache._entries) == 0


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
