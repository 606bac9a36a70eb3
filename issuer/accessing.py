"""Opening windows of access and ending them: what comes between a verified caller and the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from issuer.approving import MAX_TRIES
from issuer.core.access_end import entries_of_end
from issuer.core.access_length import latest_end
from issuer.core.access_terms import approvals_of, needs_of, origin_of
from issuer.core.access_text import opening_text, step_text
from issuer.core.access_window import AccessWindow, Opening, Status, Step, StepKind, apply
from issuer.core.approval_state import Refusal
from issuer.core.approval_text import approval_text
from issuer.core.errors import AdminRefused, FieldViolation, InvalidTokenRequest, Reason, TemporarilyUnavailable
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.ledger_entries import ACCESS, ACCESS_SEEN, ACCESS_STARTED, StepTaken
from issuer.core.stated_reason import check_why
from issuer.core.token_request import intent_text
from issuer.issuance import Wanted
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.access_book import AccessBook
    from issuer.core.approvals import Approvals
    from issuer.core.caller import Caller
    from issuer.core.decision import Grant
    from issuer.core.origin import Origin
    from issuer.core.token_request import TokenRequest
    from issuer.issuance import Asked, Issuance, LogFields
    from issuer.ports import Ids, Ledger, PolicyBook

MAX_OPEN: Final = 16
"""Windows of one caller that are open: one for each thing that a workload does at once."""
MAX_KEPT: Final = 200
"""Windows of one caller that can still matter, ended ones too: who opens and ends without end is stopped."""
MAX_OF_ALL: Final = 2_000
"""Windows of all that can still matter. Each open one is decided again every few seconds, in 0.13 ms, and each
early end is a revocation until the time of the window, beside the 5,000 that operators may have."""
MAX_REQUEST_ID: Final = 128
TOLD_WITHIN: Final = 1.5
"""Seconds: three times as long as another issuer's steps take to be known here."""
MAX_WAITING: Final = 4
"""Calls of one caller that wait for that: names that it makes up hold no more turns."""
_FRESH_MILLISECONDS: Final = 10_000
"""A window that began so lately may have begun at another issuer."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a caller asks for.

    Attributes:
        request: To what; its ``ttl`` is for how long, its grant type ``jit``.
        why: Why now, for people.
        call: The id that makes the same call again the same window; empty for none.
    """

    request: TokenRequest
    why: str
    call: str = ""


class Accessing:
    """Opens windows of access and ends them. What it knows is in the book, which the ledger keeps.

    Args:
        issuance: Decides, and records what was decided together with the window.
        policies: The policy in force.
        ids: Where identifiers come from.
        ledger: Where each step is, before it takes effect.
        accesses: What was opened and ended.
    """

    def __init__(
        self, *, issuance: Issuance, policies: PolicyBook, ids: Ids, ledger: Ledger, accesses: AccessBook
    ) -> None:
        self._issuance = issuance
        self._policies = policies
        self._ids = ids
        self._ledger = ledger
        self._accesses = accesses
        self._starting: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    async def start(self, asked: Asked, start: Start, log_fields: LogFields) -> AccessWindow:
        """Open a window, or return the one that the same call opened.

        Raises:
            PolicyDenied: Policy does not give it now; APPROVAL_REQUIRED, where people could.
            InvalidTokenRequest: No reason is given, or the call's id was used for something else.
            AdminRefused: TOO_MANY_WINDOWS.
            RateLimited: The caller was refused too often.
            TemporarilyUnavailable: The policy or the ledger is away. It may be open all the same: repeat the call.
        """
        _check_start(start)
        caller = str(asked.caller.spiffe_id)
        if (known := self._accesses.asked_before(caller, start.call)) is not None:
            return _the_same(known, start)
        self._check_bounds(caller, microseconds(asked.now))
        window_id = self._ids.fresh_id(asked.now)
        wanted = Wanted(
            start.request,
            validate_only=True,
            also=lambda grant, decision_id: self._opened(asked, start, grant, window_id, decision_id),
        )
        self._starting[caller] += 1
        try:
            [outcome] = await self._issuance.issue_tokens(asked, [wanted], log_fields)
        finally:
            self._starting[caller] -= 1
            self._starting += Counter()  # forgets who starts nothing
        if (known := self._accesses.asked_before(caller, start.call)) is not None:  # by this call, or the same one
            return _the_same(known, start)
        if isinstance(outcome, Exception):
            raise outcome
        return self._known(window_id)

    def _opened(
        self, asked: Asked, start: Start, grant: Grant | None, window_id: str, decision_id: str
    ) -> tuple[StepTaken, ...]:
        caller, policy = asked.caller, self._policies.current()
        if grant is None or self._accesses.asked_before(str(caller.spiffe_id), start.call) is not None:
            return ()
        opening = Opening(
            id=window_id,
            caller=str(caller.spiffe_id),
            audience=grant.audience,
            application=grant.application or "",
            scopes=grant.scopes,
            intent=intent_text(start.request.intent),
            bind_certificate=grant.bind_certificate,
            why=start.why,
            request=start.call,
            ttl=None if start.request.ttl is None else start.request.ttl // MICROSECOND,
            created=microseconds(asked.now),
            until=latest_end(policy, caller.spiffe_id, grant, start.request, asked.now),
            svid_until=microseconds(caller.not_after),
            decision=decision_id,
            policy=grant.policy_digest,
            approval=approval_text(grant.approval),
            needs=needs_of(policy, grant),
        )
        text, began, over_at = opening_text(opening), opening.created, opening.over_at
        return (StepTaken(ACCESS_STARTED, ACCESS, window_id, 1, began, opening.caller, text, over_at),)

    async def complete(self, asked: Asked, window_id: str) -> AccessWindow:
        """End a window of the caller; one that is over stays as it is.

        Raises:
            AdminRefused: ACCESS_UNKNOWN.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be over all the same: repeat it.
        """
        await self.find(asked, window_id, sees_all=False)
        return await self._end(asked, window_id, Step(StepKind.END, str(asked.caller.spiffe_id), Status.COMPLETED))

    async def end(self, asked: Asked, window_id: str, why: str) -> AccessWindow:
        """End anybody's window, for operators; one that is over stays as it is.

        Raises:
            AdminRefused: ACCESS_UNKNOWN.
            InvalidTokenRequest: It is not said why.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be over all the same: repeat it.
        """
        _check_reason(why)
        await self.find(asked, window_id, sees_all=True)
        return await self._end(asked, window_id, Step(StepKind.END, str(asked.caller.spiffe_id), Status.ENDED, why))

    async def seen(self, asked: Asked, window_id: str) -> AccessWindow:
        """Return an open window of the caller, with the end of the SVID that it shows now.

        Raises:
            AdminRefused: ACCESS_UNKNOWN, ACCESS_ENDED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        now, by = microseconds(asked.now), str(asked.caller.spiffe_id)
        step = Step(StepKind.SEEN, by, svid_until=microseconds(asked.caller.not_after))
        await self.find(asked, window_id, sees_all=False)
        for _ in range(MAX_TRIES):
            known = self._get(asked.caller, window_id, sees_all=False)
            after = apply(known, step, now)
            if isinstance(after, Refusal):
                raise AdminRefused(after.reason, after.message)
            if after.svid_until == known.svid_until:
                return known
            text, over_at = step_text(step), known.opening.over_at
            try:
                await self._ledger.write(
                    StepTaken(ACCESS_SEEN, ACCESS, window_id, after.number, now, by, text, over_at), within=asked.within
                )
            except ClaimTaken:
                continue
            return self._known(window_id)
        raise _overtaken()

    async def find(self, asked: Asked, window_id: str, *, sees_all: bool) -> AccessWindow:
        """Return a window of this caller; one that another issuer may just have opened is waited for.

        Args:
            asked: Who asks, when.
            window_id: Of the window.
            sees_all: The caller may see every window.

        Raises:
            AdminRefused: ACCESS_UNKNOWN; another's is not told apart from none.
        """
        caller = str(asked.caller.spiffe_id)
        if self._accesses.get(window_id) is None and self._waiting[caller] < MAX_WAITING:
            self._waiting[caller] += 1
            try:
                if _is_fresh(window_id, microseconds(asked.now)):
                    await self._told_of(window_id)
            finally:
                self._waiting[caller] -= 1
                self._waiting += Counter()  # forgets who waits for nothing
        return self._get(asked.caller, window_id, sees_all=sees_all)

    async def _told_of(self, window_id: str) -> None:
        changed = asyncio.Event()
        stop = self._accesses.watch(changed.set)
        try:
            async with asyncio.timeout(TOLD_WITHIN):
                while self._accesses.get(window_id) is None:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:  # then there is none
            pass
        finally:
            stop()

    def _get(self, caller: Caller, window_id: str, *, sees_all: bool) -> AccessWindow:
        known = self._accesses.get(window_id)
        if known is None or not (sees_all or known.opening.caller == str(caller.spiffe_id)):
            raise AdminRefused(Reason.ACCESS_UNKNOWN, "this caller has no window of access of this name")
        return known

    def list_mine(self, caller: Caller) -> Iterator[AccessWindow]:
        """Yield this caller's windows, the newest first."""
        mine = self._accesses.of_caller(str(caller.spiffe_id))
        return iter(sorted(mine, key=lambda window: window.id, reverse=True))

    def list_all(self) -> Iterator[AccessWindow]:
        """Yield every window that can still matter, the newest first."""
        return iter(self._accesses)

    def origin(self, asked: Asked, window_id: str) -> Origin:
        """Return what a token under a window rests on, at each try.

        Raises:
            AdminRefused: ACCESS_UNKNOWN, ACCESS_ENDED.
        """
        return origin_of(self._open(asked, window_id))

    def approvals(self, asked: Asked, window_id: str) -> Approvals:
        """Return what was approved of a window, as far as policy still takes it.

        Raises:
            AdminRefused: ACCESS_UNKNOWN, ACCESS_ENDED.
        """
        return approvals_of(self._open(asked, window_id), self._policies.current())

    def _open(self, asked: Asked, window_id: str) -> AccessWindow:
        known = self._get(asked.caller, window_id, sees_all=False)
        if not known.is_open(microseconds(asked.now)):
            raise AdminRefused(Reason.ACCESS_ENDED, "this window of access is over")
        return known

    async def _end(self, asked: Asked, window_id: str, step: Step) -> AccessWindow:
        for _ in range(MAX_TRIES):
            known = self._get(asked.caller, window_id, sees_all=True)
            ended = apply(known, step, microseconds(asked.now))
            if isinstance(ended, Refusal):
                return known
            try:
                await self._ledger.write(
                    *entries_of_end(ended, step, self._ids.fresh_id(asked.now)), within=asked.within
                )
            except ClaimTaken:
                continue
            return self._known(window_id)
        raise _overtaken()

    def _known(self, window_id: str) -> AccessWindow:
        known = self._accesses.get(window_id)
        if known is None:
            raise _overtaken()
        return known

    def _check_bounds(self, caller: str, now: int) -> None:
        mine = [each for each in self._accesses.of_caller(caller) if now < each.opening.over_at]
        is_open = sum(each.is_open(now) for each in mine) + self._starting[caller]
        if is_open >= MAX_OPEN or len(mine) >= MAX_KEPT:
            message = f"this caller has opened too many: {MAX_OPEN} may be open, and {MAX_KEPT} be kept"
            raise AdminRefused(Reason.TOO_MANY_WINDOWS, message)
        if len(self._accesses) >= MAX_OF_ALL:
            raise AdminRefused(Reason.TOO_MANY_WINDOWS, f"{MAX_OF_ALL} windows of all callers are kept already")


def _is_fresh(window_id: str, now: int) -> bool:
    """Return whether an id, a UUIDv7, says of itself that it was made a moment ago."""
    try:
        age = now // 1_000 - (UUID(window_id).int >> 80)
    except ValueError:
        return False
    return abs(age) < _FRESH_MILLISECONDS


def _check_start(start: Start) -> None:
    _check_reason(start.why)
    if len(start.call) > MAX_REQUEST_ID or not start.call.isprintable():
        fault = FieldViolation("request_id", f"must be at most {MAX_REQUEST_ID} printable characters")
        raise InvalidTokenRequest((fault,))


def _check_reason(why: str) -> None:
    check_why(why)
    if not why.strip():
        raise InvalidTokenRequest((FieldViolation("reason", "is required: say why, for those who read the ledger"),))


def _the_same(known: AccessWindow, start: Start) -> AccessWindow:
    opening, request = known.opening, start.request
    same = (
        (opening.audience, opening.scopes, opening.why) == (request.audience, request.scopes, start.why)
        and request.application in (None, opening.application)
        and opening.bind_certificate >= request.bind_certificate
        and opening.intent == intent_text(request.intent)
        and opening.ttl == (None if request.ttl is None else request.ttl // MICROSECOND)
    )
    if not same:
        fault = FieldViolation("request_id", "was used by this caller for another window")
        raise InvalidTokenRequest((fault,))
    return known


def _overtaken() -> TemporarilyUnavailable:
    return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "others change this window at the same moment; look again")
