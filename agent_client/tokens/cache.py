"""What is to be done about each request: hand out, wait, ask, renew, refuse. Pure; both kinds of client drive it."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

from agent_client.errors import (
    AccessEnded,
    ApprovalRequired,
    IssuerNotTrusted,
    IssuerRequestError,
    IssuerUnavailable,
    NotAuthenticated,
    SvidExpiresSoon,
)
from agent_client.tokens.entry import LONG_AGO, Entry, again, remembered
from agent_client.tokens.renewal import Spread, patience, pause, schedule

if TYPE_CHECKING:
    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity
    from agent_client.tokens.entry import Arrival

Flight = TypeVar("Flight")
NEVER = float("inf")
REFUSALS_APART = 5.0
"""Seconds. A token that was fetched because its predecessor was refused is kept at least this long."""
_PLAN_SLACK = 64
"""Plans that others have replaced, before they are looked for and thrown away."""


class TokenCache(Generic[Flight]):
    """The tokens of one client. Not thread-safe: whoever drives it holds one lock, or lives in one event loop.

    An entry lives as long as a source holds it, and beyond that while something is planned for it. So there is no bound
    to their number but the sources that the application holds and what it asked for within a token's life.
    """

    def __init__(self) -> None:
        self._entries: WeakValueDictionary[TokenRequest, Entry[Flight]] = WeakValueDictionary()
        self._plan: list[tuple[float, int, Entry[Flight]]] = []
        self._order = itertools.count()
        self._spread = Spread()
        self._caller: CallerIdentity | None = None

    def entry(self, request: TokenRequest) -> Entry[Flight]:
        """Return the entry of a request, one for all who ask for the same.

        Raises:
            ValueError: The request is ``validate_only``, which brings no token.
        """
        if request.validate_only:
            raise ValueError("a validate_only request brings no token to keep: use issue_token")
        entry = self._entries.get(request)
        if entry is None:
            entry = self._entries[request] = Entry(request)
        return entry

    def look(self, entry: Entry[Flight], now: float) -> IssuedToken | Flight | None:
        """Return what an asker gets: the token, the call to wait for, or ``None``: make the call, after ``take_off``.

        1. A good token is handed out, whatever the issuer does meanwhile. Where it was not renewed, for nobody had
           asked for it, that is due now.
        2. A call under way is waited for.
        3. What was refused a moment ago is refused again.
        4. Otherwise somebody has to ask, and it is this asker.

        Raises:
            IssuerRequestError: As the last attempt did.
        """
        entry.used = True
        if entry.good is not None and now < entry.good_until:  # 1
            if entry.due_at is None and entry.flight is None and entry.renewable:
                self._renew(entry, now)
                entry.fresh_until = entry.good_until
            return entry.good
        if entry.flight is not None:  # 2
            return entry.flight
        if entry.failure is not None and now < entry.refused_until:  # 3
            raise again(entry.failure)
        return None  # 4

    def take_off(self, entry: Entry[Flight], flight: Flight) -> None:
        """Note that a call for the entry is under way. End it with ``arrived``, ``failed`` or ``abandoned``."""
        entry.flight, entry.outdated, entry.due_at, entry.used = flight, False, None, False
        entry.fresh_until = entry.good_until

    def patience(self, entry: Entry[Flight], usual: float, now: float) -> float:
        """Return the seconds that an attempt in the background may take, where calls may take ``usual`` seconds."""
        return patience(usual, entry.seconds_left(now))

    def arrived(self, entry: Entry[Flight], arrival: Arrival, caller: CallerIdentity | None, now: float) -> bool:
        """Note what the call brought; return whether this workload can use it. If not, whoever waits asks anew.

        It cannot when it is somebody else by now, or presents another certificate than the one that the token is bound
        to (RFC 8705 section 3). Nor when the token has ended on its way: the host was suspended, say.

        Args:
            entry: Whose call it was.
            arrival: What it brought.
            caller: Who this workload is now; ``None``: nobody.
            now: The time.
        """
        self.caller_changed(caller, now)
        entry.flight = None
        entry.pardon()
        renew_at, good_until = schedule(arrival.issued, arrival.sent_at, self._spread.next())
        if entry.over:
            return False
        if now >= good_until or not self._is_ours(arrival.issued, arrival.caller):
            self._try_later(entry, now, pause(1, self._spread.next(), entry.seconds_left(now)))
            return False
        entry.good, entry.owner = arrival.issued, arrival.caller
        entry.good_until = entry.fresh_until = good_until
        entry.approved = arrival.issued.approval_request is not None
        if entry.renewable:
            self._renew(entry, renew_at)
        return True

    def failed(self, entry: Entry[Flight], error: Exception, now: float) -> None:
        """Note how the call failed.

        What the issuer refused is refused for a while without asking again. What it could not answer is not, for the
        next asker may have more luck. Nobody asks before the time that the issuer named (``RetryInfo``). What it
        refused to whom this workload was before is no answer to whom it is now.
        """
        entry.flight, entry.failure = None, remembered(error)
        entry.failures += 1
        entry.approved |= isinstance(error, ApprovalRequired)
        if isinstance(error, AccessEnded) and entry.request.access is not None:
            self._end(entry)
        left = entry.seconds_left(now)
        if left is None:
            entry.drop()
        named = _named_pause(error)
        wait = max(named, pause(entry.failures, self._spread.next(), left))
        if entry.outdated:
            entry.pardon()
            wait = 0.0
        else:
            entry.refused_until = now + (wait if _is_refusal(error) else named)
        if not self._try_later(entry, now, wait) and entry.refused_until > now:
            self._plan_for(entry, entry.refused_until)  # so that it is remembered, whoever lets go of it

    def abandoned(self, entry: Entry[Flight], now: float) -> None:
        """Note that the call ended with neither: whoever waits asks anew."""
        entry.flight, entry.fresh_until = None, LONG_AGO
        self._try_later(entry, now, pause(1, self._spread.next(), entry.seconds_left(now)))

    def invalidate(self, entry: Entry[Flight], refused: IssuedToken, now: float) -> None:
        """Drop a token that a resource server refused, unless another one has taken its place.

        Not again within :data:`REFUSALS_APART`: a server that refuses every token would make its callers ask the issuer
        for two tokens with each request.
        """
        if entry.good is refused and now >= entry.dropped_at + REFUSALS_APART:
            entry.drop()
            entry.dropped_at = now

    def access_ended(self, access: str) -> None:
        """Hand out no token of a window of access any more, and ask for none but where somebody still does."""
        for entry in list(self._entries.values()):
            if entry.request.access == access:
                self._end(entry)

    def caller_changed(self, caller: CallerIdentity | None, now: float) -> None:
        """Note who this workload is now; ``None``: nobody. Nothing happens where it is the same as before.

        Another SPIFFE ID has none of the tokens of the one before, and none of its refusals. Another certificate has
        the tokens that are not bound to the one before, and the refusals that are not about that one. What is in use of
        the others is asked for at once.
        """
        before, self._caller = self._caller, caller
        if before == caller:
            return
        another = before is not None and (caller is None or caller.spiffe_id != before.spiffe_id)
        for entry in list(self._entries.values()):
            entry.outdated |= another
            lost = entry.good is not None and entry.owner is not None and not self._is_ours(entry.good, entry.owner)
            if lost:
                entry.drop()
            pardoned = entry.failure is not None and (another or not _survives_rotation(entry.failure))
            if pardoned:
                entry.pardon()
            if (lost or pardoned) and entry.renewable and entry.wanted and entry.flight is None:
                self._renew(entry, now)

    def people_approved(self) -> None:
        """Note that people approved something: what was refused for want of that may be asked for at once."""
        for entry in list(self._entries.values()):
            if isinstance(entry.failure, ApprovalRequired):
                entry.pardon()

    def due(self, now: float) -> Entry[Flight] | None:
        """Return an entry to ask for in the background now, or ``None``. What nobody used since is left to lapse."""
        while self._plan and self._plan[0][0] <= now:
            at, _, entry = heapq.heappop(self._plan)
            if at != entry.due_at:
                continue  # another plan has taken its place
            entry.due_at = None
            if entry.wanted and entry.flight is None:
                return entry
        return None

    def next_due(self) -> float:
        """Return when :meth:`due` is to be called next."""
        return self._plan[0][0] if self._plan else NEVER

    def flights(self) -> list[Flight]:
        """Return the calls under way."""
        return [entry.flight for entry in list(self._entries.values()) if entry.flight is not None]

    def forget(self) -> None:
        """Drop everything, and keep the entries for the sources that have them: another process (fork), or the end."""
        self._plan.clear()
        self._caller = None
        for entry in list(self._entries.values()):
            entry.drop()
            entry.pardon()
            entry.flight, entry.due_at, entry.used, entry.dropped_at = None, None, False, LONG_AGO
            entry.approved = False

    def _end(self, entry: Entry[Flight]) -> None:
        entry.drop()
        entry.over, entry.due_at = True, None

    def _try_later(self, entry: Entry[Flight], now: float, wait: float) -> bool:
        """Plan an attempt where one is wanted without an asker, or a good token is left; return whether."""
        if not entry.renewable or not (entry.keepers or entry.seconds_left(now) is not None):
            return False
        self._renew(entry, now + wait)
        return True

    def _renew(self, entry: Entry[Flight], at: float) -> None:
        entry.due_at = at
        entry.fresh_until = min(at, entry.good_until)
        self._plan_for(entry, at)

    def _plan_for(self, entry: Entry[Flight], at: float) -> None:
        heapq.heappush(self._plan, (at, next(self._order), entry))
        if len(self._plan) > _PLAN_SLACK + 2 * len(self._entries):
            self._plan = [plan for plan in self._plan if plan[0] in (plan[2].due_at, plan[2].refused_until)]
            heapq.heapify(self._plan)

    def _is_ours(self, issued: IssuedToken, owner: CallerIdentity) -> bool:
        if self._caller is None or owner.spiffe_id != self._caller.spiffe_id:
            return False
        return not issued.certificate_bound or owner.certificate_sha256 == self._caller.certificate_sha256


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, IssuerRequestError) and not isinstance(error, IssuerUnavailable | IssuerNotTrusted)


def _survives_rotation(error: Exception) -> bool:
    """Tell what holds for another certificate of the same SPIFFE ID: what the issuer says of anything else."""
    return isinstance(error, IssuerRequestError) and not isinstance(error, NotAuthenticated | SvidExpiresSoon)


def _named_pause(error: Exception) -> float:
    named = error.retry_after if isinstance(error, IssuerRequestError) else None
    return named.total_seconds() if named is not None else 0.0
