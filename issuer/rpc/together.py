"""Answers calls of IssueToken that are here at the same moment together: by one task, and in one commit.

Most of what a call costs alone are its coroutines, futures and timers. What is done for each call is what
:class:`~issuer.rpc.pipeline.Pipeline` does, in that order and by the same code: the door, the bound on calls, its
:class:`~issuer.rpc.course.Course`, its turn, the request path.

1. Whom the door refuses is refused. Whatever is not known from memory is left to the pipeline, untouched: a caller who
   has to be verified, a message that is not plain, a fact that has to be asked for; and whoever may not wait as long as
   a turn and the ledger may take.
2. Refuse it if too many are here. Read the clock, once for all; give the call an id.
3. It is answered when it is its caller's turn, with all whose turn it is then, and those who are to be expected in the
   next moment (:mod:`issuer.rpc.company`).
4. Decide, sign, record: each for itself, all in one commit.
5. Turn refusals into their statuses, write one log line for each, and tell all answers at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from google.rpc import code_pb2

from issuer.core.admission import ANSWER_SECONDS, Standing
from issuer.core.errors import InvalidTokenRequest, IssuerError, PolicyDenied, RateLimited
from issuer.core.facts_needed import facts_needed
from issuer.issuance import TokenAsk
from issuer.observing import Step
from issuer.ports import ClaimTaken, EpochMoved
from issuer.rpc.company import LONGEST_SECONDS, LOOK_SECONDS, Company
from issuer.rpc.messages import issued_token_to_proto
from issuer.rpc.plain_request import plain_request
from issuer.rpc.refusals import Refusals
from issuer.rpc.rpc_rules import RPC_RULES, CallerKind
from issuer.rpc.shedding import Shedding
from issuer.rpc.status import internal_error, status_from_error
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.rpc.status_pb2 import Status

    from issuer.core.admission import Place
    from issuer.core.caller import Caller
    from issuer.core.token_request import TokenRequest
    from issuer.core.verdicts import Recall
    from issuer.issuance import IssuedToken, Wanted
    from issuer.ports import FactBook, PolicyBook
    from issuer.rpc.call import Call, VerifiedCall
    from issuer.rpc.course import Moment, Running
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.pipeline import Pipeline
    from issuer.rpc.shedding import Peer, Sheds

Tell = Callable[[list[tuple[int, "bytes | Status"]]], None]
"""Is told answers by the ids of their calls, many at once: a serialized IssueTokenResponse, or why there is none."""

ISSUE_TOKEN: Final = "issuer_api.v1.IssuerService/IssueToken"  # noqa: S105 - the name of a method
_INTERNAL: Final = status_from_error(internal_error(), "")


class Asking(NamedTuple):
    """A call as its transport hands it over.

    Attributes:
        call: What the transport saw. Calls on one connection best have the same object as their leaf.
        message: The serialized request.
        id: What the answer is told with.
        peer: The connection, where its transport refuses by itself.
    """

    call: Call
    message: bytes
    id: int
    peer: Peer | None = None


class _Taken(NamedTuple):
    """A call that is answered here."""

    id: int
    message: bytes
    wanted: Wanted
    running: Running
    verified: VerifiedCall
    place: Place

    @property
    def ask(self) -> TokenAsk:
        return TokenAsk(self.verified.asked, self.wanted, self.running.fields)


class Together:
    """Answers calls together. For one event loop, that of the pipeline.

    Args:
        pipeline: What answers the others; its turns, its door and its course are used here.
        methods: Those of IssuerService.
        policies: The policy in force.
        facts: What feeders told.
        most_seconds: How long an answer may take: the longest wait for a turn, and that for the ledger.
        tell: Is told the answers by the ids of their calls, many at once: a serialized IssueTokenResponse, or why there
            is none. Each call that was taken is answered once, whether its client is still there or not, and never
            before :meth:`take` returned.
        sheds: A transport that refuses by itself whom the door would refuse.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        methods: IssuerMethods,
        policies: PolicyBook,
        facts: FactBook,
        most_seconds: float,
        *,
        tell: Tell,
        sheds: Sheds | None = None,
    ) -> None:
        self._course = pipeline.course
        self._turns = pipeline.turns
        self._door = pipeline.door
        self._methods = methods
        self._policies = policies
        self._facts = facts
        self._least_within = most_seconds + LONGEST_SECONDS + ANSWER_SECONDS
        self._tell = tell
        self._waiting: dict[Place, _Taken] = {}
        self._next: list[_Taken] = []
        self._here = 0
        self._company = Company()
        self._look: asyncio.TimerHandle | None = None
        self._refusals = Refusals(tell)
        self._shedding = Shedding(pipeline.turns, sheds) if sheds else None
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, calls: Sequence[Asking]) -> list[Asking]:
        """Take the calls that can be answered together; return the others, of which nothing was taken.

        Calls of any method that the pipeline answers may be handed over: the door is looked at for all.
        """
        moment = self._course.moment()
        try:
            recall = self._course.recall(moment)
        except IssuerError:  # the pipeline tells it
            recall = _nobody
        others = [each for each in calls if not self._is_turned_away(each) and not self._takes(each, moment, recall)]
        self._begin_or_wait()
        self._look_at_crowd()
        return others

    def _is_turned_away(self, asking: Asking) -> bool:
        if not self._door.busy:
            return False
        call = asking.call
        found = self._door.turn_away(call.method, call.leaf_pem, call.intermediates_pem, call.within)
        if found is None:
            return False
        self._refusals.add_when_due(asking.id, found)
        if self._shedding is not None and asking.peer is not None:
            self._shedding.begin(found.caller, asking.peer)
        return True

    def _look_at_crowd(self) -> None:
        if self._shedding is not None:
            self._shedding.look()

    def _takes(self, asking: Asking, moment: Moment, recall: Recall) -> bool:
        known = self._from_memory(asking, recall)
        if known is None:
            return False
        caller, wanted = known
        try:
            self._turns.enter()
        except RateLimited as error:
            self._refusals.add(asking.id, error)
            return True
        running = self._course.begin(asking.call, moment)
        running.trace.at(Step.VERIFY_CALLER)
        verified = self._course.verified(running, caller)
        running.trace.at(Step.WAIT_TURN)
        place = self._turns.queue(caller.spiffe_id, 1, asking.call.within, self._changed)
        self._stands(_Taken(asking.id, asking.message, wanted, running, verified, place))
        return True

    def _from_memory(self, asking: Asking, recall: Recall) -> tuple[Caller, Wanted] | None:
        """Return who asks for what, where neither has to be looked at any more."""
        call = asking.call
        if call.method != ISSUE_TOKEN or RPC_RULES[ISSUE_TOKEN] is not CallerKind.WORKLOAD:
            return None
        if call.within is not None and call.within < self._least_within:
            return None
        caller = recall(call.leaf_pem, call.intermediates_pem)
        if caller is None:  # what somebody sends who was not verified is not remembered
            return None
        wanted = plain_request(asking.message)
        if wanted is None or isinstance(wanted.request, InvalidTokenRequest):
            return None
        return None if self._asks_outside(caller, wanted.request) else (caller, wanted)

    def _asks_outside(self, caller: Caller, request: TokenRequest) -> bool:
        outside = self._facts.asked_outside
        if not outside:
            return False
        try:
            needed = facts_needed(self._policies.current(), caller, request)
        except IssuerError:  # the pipeline tells it
            return True
        return any(key.type in outside for key in needed)

    def _changed(self, place: Place) -> None:
        """Go on with a call that waited for its turn."""
        if not self._next:
            asyncio.get_running_loop().call_soon(self._begin_or_wait)
        self._stands(self._waiting.pop(place))

    def _stands(self, taken: _Taken) -> None:
        if taken.place.standing is Standing.RUNNING:
            self._next.append(taken)
            self._here += 1
        elif taken.place.standing is Standing.WAITING:
            self._waiting[taken.place] = taken
        else:
            found = self._turns.refuse(taken.verified.caller.spiffe_id, self._left(taken))
            self._refusals.add_when_due(taken.id, found, self._turns.leave)

    def _left(self, taken: _Taken) -> float | None:
        """Return how many seconds a caller still waits."""
        within = taken.verified.asked.within
        waited = asyncio.get_running_loop().time() - taken.place.arrived
        return None if within is None else max(within - waited, 0.0)

    def _begin_or_wait(self) -> None:
        if not self._next:
            return
        now = time.monotonic()
        if self._are_all_here(now):
            self._begin()
        elif self._look is None:
            self._company.wait(len(self._next), now)
            self._look_later()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        now = time.monotonic()
        awaited = self._company.is_awaited(len(self._next), now, answering=bool(self._tasks))
        if awaited and not self._are_all_here(now):
            self._look_later()
        else:
            self._begin()

    def _are_all_here(self, now: float) -> bool:
        # Whoever waits for a turn gets none before others are answered.
        return self._company.is_here(self._here, now) or bool(self._turns.waiting)

    def _begin(self) -> None:
        """Answer all whose turn it is."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        group, self._next = self._next, []
        task = asyncio.get_running_loop().create_task(self._answer(group))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: Sequence[_Taken]) -> None:
        try:
            outcomes = await self._outcomes(group)
        except asyncio.CancelledError:
            for taken in group:
                self._course.ended(taken.running, code_pb2.CANCELLED)
            raise
        finally:
            self._turns.give_back(*(taken.place for taken in group))
            self._turns.leave(len(group))
            self._here -= len(group)
        answers: list[tuple[int, bytes | Status]] = []
        try:
            with self._course.lines_together():
                for taken, outcome in zip(group, outcomes, strict=True):
                    answers.append((taken.id, self._answered(taken, outcome)))
        finally:  # a log that cannot be written leaves nobody without an answer
            answers += [(taken.id, _INTERNAL) for taken in group[len(answers) :]]
            self._tell(answers)
        self._look_at_crowd()

    def _answered(self, taken: _Taken, outcome: IssuedToken | Exception) -> bytes | Status:
        if isinstance(outcome, Exception):
            return self._course.failed(outcome, taken.running)
        answer = issued_token_to_proto(outcome).SerializeToString()
        self._course.ended(taken.running, code_pb2.OK)
        return answer

    async def _outcomes(self, group: Sequence[_Taken]) -> list[IssuedToken | Exception]:
        """Return what came of each."""
        for taken in group:
            taken.running.trace.at(Step.METHOD)
            taken.running.trace.at(Step.PARSE_REQUEST)
        try:
            outcomes = await self._methods.issuance.issue_once([taken.ask for taken in group], None)
        except (EpochMoved, ClaimTaken):
            outcomes = await asyncio.gather(*map(self._alone, group))
        except Exception as error:  # noqa: BLE001 - all learn it, as one alone would
            outcomes = [error] * len(group)
        return [
            await self._refusal(taken, outcome) if isinstance(outcome, Exception) else outcome
            for taken, outcome in zip(group, outcomes, strict=True)
        ]

    async def _alone(self, taken: _Taken) -> IssuedToken | Exception:
        asked = taken.verified.asked._replace(within=self._left(taken))
        try:
            [outcome] = await self._methods.issuance.issue_tokens(asked, [taken.wanted], taken.running.fields)
        except Exception as error:  # noqa: BLE001 - likewise
            return error
        return outcome

    async def _refusal(self, taken: _Taken, error: Exception) -> Exception:
        if isinstance(error, RateLimited):
            self._turns.count_refused(taken.verified.caller.spiffe_id)
        if not isinstance(error, PolicyDenied):
            return error
        try:
            message = pb.IssueTokenRequest.FromString(taken.message)
            return await self._methods.with_approval(error, message, taken.verified)
        except Exception as fault:  # noqa: BLE001 - likewise
            return fault


class MakeTogether(Protocol):
    """Makes it for a transport."""

    def __call__(self, *, tell: Tell, sheds: Sheds | None = None) -> Together:
        """Return what answers calls together; see :class:`Together`."""
        ...


def _nobody(_leaf_pem: bytes | None, _intermediates_pem: bytes | None) -> None:
    """Recall nobody."""
