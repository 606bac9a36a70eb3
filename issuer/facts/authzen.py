"""Facts from a policy decision point that speaks the OpenID AuthZEN Authorization API 1.0, asked at decision time.

The question "what is true of this subject": ``subject`` is whom the fact is about, ``action`` is ``observe``,
``resource`` is the type of fact. The members of the answer's ``context`` are the fields of the fact, and a declared
field ``decision`` is the answer's decision. Where the caller chose the subject, ``context`` must also name the
``caller`` and the ``audience`` that the fact is for. Whatever goes wrong is a missing fact, never an error: no
connection, a late, large, malformed or wrongly typed answer, a redirect, an open circuit.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from issuer.core.fact_reading import FactRefused, counts_as, fact_from_document
from issuer.core.facts import CHOSEN_BY_CALLER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.core.caller import Caller
    from issuer.core.facts import Fact, FactKey, FactType

_ABOUT_THE_QUESTION: Final = frozenset({400, 404, 422})
EVALUATION: Final = "/access/v1/evaluation"
MAX_CACHED: Final = 100_000
MAX_ASKED_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class AuthzenSettings:
    """Where a source is and how long it may take.

    Attributes:
        name: What facts of it are recorded under.
        url: The decision point's base; https, or http on loopback.
        types: The types of fact that it is asked for.
        timeout: From the question to the last byte of the answer.
        max_response_bytes: A larger answer is no answer.
        cache_ttl: How long an answer is used again; never past the fact's end.
        failures_to_open: So many failures in a row open the circuit.
        open_for: How long it then stays open; after that one question is let through.
        ca_file: PEM of the authorities that its certificate may come from; the system's when ``None``.
        token_file: A bearer token, read for each connection made; none when ``None``.
    """

    name: str
    url: str
    types: frozenset[str]
    timeout: timedelta
    max_response_bytes: int
    cache_ttl: timedelta
    failures_to_open: int
    open_for: timedelta
    ca_file: Path | None
    token_file: Path | None


class _NoAnswer(Exception):
    """The source did not say anything that can be used; the message says why, for the log."""


class CircuitBreaker:
    """Keeps a source that fails from being asked by everyone. Counts failures in a row; asks one after a pause."""

    def __init__(self, failures_to_open: int, open_for: float, monotonic: Callable[[], float]) -> None:
        self._failures_to_open = failures_to_open
        self._open_for = open_for
        self._monotonic = monotonic
        self._failures = 0
        self._closed_again_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether so many questions failed in a row that none is asked for now."""
        return self._failures >= self._failures_to_open

    def lets_through(self) -> bool:
        """Return whether a question may be asked; of those that come after the pause only the first may."""
        if not self.is_open:
            return True
        now = self._monotonic()
        if now < self._closed_again_at:
            return False
        self._closed_again_at = now + self._open_for
        return True

    def succeeded(self) -> None:
        """Close the circuit."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure, which may open the circuit."""
        self._failures += 1
        if self.is_open:
            self._closed_again_at = self._monotonic() + self._open_for


class AuthzenSource:
    """One AuthZEN decision point.

    Args:
        settings: Where it is.
        log: Is told once when the source goes away and once when it is back.
        monotonic: Seconds that never jump, for pauses and the cache.
    """

    def __init__(self, settings: AuthzenSettings, *, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._log = log
        self._monotonic = monotonic
        self._breaker = CircuitBreaker(settings.failures_to_open, settings.open_for.total_seconds(), monotonic)
        self._cache: OrderedDict[tuple[FactKey, str], tuple[float, Fact]] = OrderedDict()
        self._asked: dict[tuple[FactKey, str], asyncio.Task[Fact | None]] = {}
        self._places = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        self._away: str | None = None
        self._client = httpx.AsyncClient(
            base_url=settings.url,
            timeout=None,  # noqa: S113 - the whole question has one deadline, below
            follow_redirects=False,
            trust_env=False,
            verify=httpx.create_ssl_context(verify=str(settings.ca_file)) if settings.ca_file else True,
            limits=httpx.Limits(max_connections=MAX_ASKED_AT_ONCE, max_keepalive_connections=MAX_ASKED_AT_ONCE),
        )

    async def fact(self, key: FactKey, fact_type: FactType, caller: Caller, now: datetime) -> Fact | None:
        """Return what the source says about ``key``; ``None`` for whatever reason there is nothing. Never raises."""
        question = key, str(caller.spiffe_id)
        kept = self._cache.get(question)
        if kept is not None and self._monotonic() < kept[0] and counts_as(kept[1], fact_type, now):
            return kept[1]
        task = self._asked.get(question)
        if task is None:  # equal questions at the same time are asked once
            task = self._asked[question] = asyncio.ensure_future(self._ask(key, fact_type, caller, now))
            task.add_done_callback(lambda _: self._asked.pop(question, None))
        fact = await asyncio.shield(task)  # one caller that gives up does not take the answer from the others
        # The one who asked first may have done so under an earlier policy.
        return fact if fact is not None and counts_as(fact, fact_type, now) else None

    @property
    def is_away(self) -> bool:
        """Whether its last answer could not be used."""
        return self._away is not None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, key: FactKey, fact_type: FactType, caller: Caller, now: datetime) -> Fact | None:
        if not self._breaker.lets_through():
            return None
        try:
            async with asyncio.timeout(self.settings.timeout.total_seconds()), self._places:
                answer = await self._answer(key, fact_type, caller)
            fact = self._fact(answer, key, fact_type, now)
        except FactRefused as refused:
            # About this subject alone, which a caller may have chosen: it must not open the circuit for all others.
            self._breaker.succeeded()
            self._report(str(refused))
            return None
        except (_NoAnswer, httpx.HTTPError, OSError, TimeoutError, ValueError, RuntimeError) as error:
            # ValueError: a token file that is not text. RuntimeError: the client was closed meanwhile.
            self._breaker.failed()
            self._report(_said(error))
            return None
        self._breaker.succeeded()
        self._report(None)
        if fact is not None:
            self._keep((key, str(caller.spiffe_id)), fact)
        return fact

    async def _answer(self, key: FactKey, fact_type: FactType, caller: Caller) -> Mapping[str, object]:
        question = {
            "subject": {"type": fact_type.subject.value, "id": key.subject},
            "action": {"name": "observe"},
            "resource": {"type": "fact", "id": key.type},
            "context": {"caller": str(caller.spiffe_id)},
        }
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",  # a small answer could unpack to a large one
            "x-request-id": uuid.uuid4().hex,  # noqa: TID251 - names a question
        }
        if self.settings.token_file is not None:
            headers["authorization"] = f"Bearer {self.settings.token_file.read_text(encoding='ascii').strip()}"
        async with self._client.stream("POST", EVALUATION, json=question, headers=headers) as response:
            if response.status_code in _ABOUT_THE_QUESTION:
                raise FactRefused("", f"answered {response.status_code}")
            if response.status_code != httpx.codes.OK:
                raise _NoAnswer(f"answered {response.status_code}")
            if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise _NoAnswer("did not answer in JSON")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _NoAnswer("answered in an encoding that it was not asked for")
            return _object(await self._body(response))

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self.settings.max_response_bytes:
                raise _NoAnswer(f"answered more than {self.settings.max_response_bytes} bytes")
        return bytes(body)

    def _fact(self, answer: Mapping[str, object], key: FactKey, fact_type: FactType, now: datetime) -> Fact | None:
        """Return what the answer says; ``None`` when that is nothing, which is how a source says that it knows none."""
        decision, context = answer.get("decision"), answer.get("context", {})
        if not isinstance(decision, bool) or not isinstance(context, dict):
            raise _NoAnswer("answered without a decision")
        values = {name: value for name, value in context.items() if name in fact_type.fields}
        if "decision" in fact_type.fields:
            values["decision"] = decision
        if not values:
            return None
        document: dict[str, object] = {"type": key.type, "subject": key.subject, "values": values}
        if fact_type.subject in CHOSEN_BY_CALLER:
            document |= {name: context.get(name) for name in ("caller", "audience")}
        return fact_from_document(document, {key.type: fact_type}, source=f"authzen:{self.settings.name}", now=now)

    def _keep(self, question: tuple[FactKey, str], fact: Fact) -> None:
        self._cache[question] = (self._monotonic() + self.settings.cache_ttl.total_seconds(), fact)
        self._cache.move_to_end(question)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)

    def _report(self, fault: str | None) -> None:
        if fault is not None and self._away is None:
            self._log.error("fact_source_away", source=self.settings.name, error=fault)
        elif fault is None and self._away is not None:
            self._log.info("fact_source_back", source=self.settings.name)
        self._away = fault


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeError):  # its text would show the token
        return "the token file is not ASCII text"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _object(body: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _NoAnswer("did not answer in JSON") from None
    if not isinstance(value, dict):
        raise _NoAnswer("did not answer with an object")
    return value
