"""An AuthZEN source, asked over real HTTP; whatever it does wrong is a missing fact and never an error."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.facts import RISK, risk
from support.policies import LEDGER, NOW, SETTLER, caller

from issuer.core.facts import FactKey, FieldType, SubjectKind
from issuer.facts.authzen import AuthzenSettings, AuthzenSource, CircuitBreaker
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.log import open_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from issuer.core.facts import Fact, FactType

KEY = FactKey("risk", SETTLER)


class DecisionPoint:
    """A decision point whose answer a test sets; remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.headers = {"content-type": "application/json"}
        self.body: bytes = json.dumps({"decision": True, "context": {"score": 3, "more": "ignored"}}).encode()
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        self.hold = threading.Event()
        self.hold.set()
        point = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                point.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                point.asked.append((self.path, headers, json.loads(body)))
                point.hold.wait(10)
                self.send_response(point.status)
                for name, value in point.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(point.body)))
                self.end_headers()
                self.wfile.write(point.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Asking:
    """A source, and the log and the clock that it was given."""

    def __init__(self, point: DecisionPoint, **changes: object) -> None:
        settings = AuthzenSettings(
            name="posture",
            url=point.url,
            types=frozenset({"risk"}),
            timeout=timedelta(seconds=5),
            max_response_bytes=1024,
            cache_ttl=timedelta(seconds=5),
            failures_to_open=2,
            open_for=timedelta(seconds=10),
            ca_file=None,
            token_file=None,
        )
        self.time = Time()
        self.log = io.StringIO()
        settings = replace(settings, **changes)  # type: ignore[arg-type]
        self.source = AuthzenSource(settings, log=open_log("json", self.log), monotonic=self.time)

    async def fact(self, key: FactKey = KEY, kind: FactType = RISK) -> Fact | None:
        return await self.source.fact(key, kind, caller(), NOW)

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


@pytest.fixture
def point() -> Iterator[DecisionPoint]:
    point = DecisionPoint()
    yield point
    point.close()


@pytest.fixture
async def asking(point: DecisionPoint) -> AsyncIterator[Asking]:
    asking = Asking(point)
    yield asking
    await asking.source.close()


async def test_asks_as_authzen_says_and_reads_the_context(asking: Asking, point: DecisionPoint) -> None:
    fact = await asking.fact()
    assert fact is not None
    assert (fact.values, fact.source, fact.observed_at) == ({"score": 3}, "authzen:posture", NOW)
    ((path, headers, question),) = point.asked
    assert path == "/access/v1/evaluation"
    assert question == {
        "subject": {"type": "caller", "id": SETTLER},
        "action": {"name": "observe"},
        "resource": {"type": "fact", "id": "risk"},
        "context": {"caller": SETTLER},
    }
    assert len(headers["x-request-id"]) == 32
    assert "authorization" not in headers


async def test_a_declared_decision_gets_the_decision(asking: Asking, point: DecisionPoint) -> None:
    point.body = b'{"decision": false}'
    kind = replace(RISK, fields={"decision": FieldType.BOOL})
    fact = await asking.fact(kind=kind)
    assert fact is not None
    assert fact.values == {"decision": False}


async def test_what_callers_choose_must_be_for_this_caller_and_audience(asking: Asking, point: DecisionPoint) -> None:
    kind = replace(RISK, subject=SubjectKind.TICKET)
    assert await asking.fact(FactKey("risk", "T-1"), kind) is None
    answer = {"decision": True, "context": {"score": 3, "caller": SETTLER, "audience": LEDGER}}
    point.body = json.dumps(answer).encode()
    fact = await asking.fact(FactKey("risk", "T-2"), kind)
    assert fact is not None
    assert (fact.caller, fact.audience) == (SETTLER, LEDGER)


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (500, "application/json", b'{"decision": true, "context": {"score": 3}}'),
        (302, "application/json", b'{"decision": true, "context": {"score": 3}}'),
        (200, "text/plain", b'{"decision": true, "context": {"score": 3}}'),
        (200, "application/json", b""),
        (200, "application/json", b"[" * 900),
        (200, "application/json", b"[]"),
        (200, "application/json", b'{"context": {"score": 3}}'),
        (200, "application/json", b'{"decision": "true", "context": {"score": 3}}'),
        (200, "application/json", b'{"decision": true, "context": []}'),
        (200, "application/json", b'{"decision": true, "context": {"score": "3"}}'),
        (200, "application/json", b'{"decision": true, "context": {"score": 3, "pad": "' + b"x" * 1024 + b'"}}'),
    ],
)
async def test_an_answer_that_cannot_be_used_is_a_missing_fact(
    asking: Asking, point: DecisionPoint, status: int, content_type: str, body: bytes
) -> None:
    point.status, point.body = status, body
    point.headers = {"content-type": content_type, "location": point.url}
    assert await asking.fact() is None
    assert asking.events == ["fact_source_away"]
    assert len(point.asked) == 1  # a redirect is not followed


async def test_what_a_source_does_not_know_of_one_subject_does_not_open_the_circuit_for_others(
    asking: Asking, point: DecisionPoint
) -> None:
    good = point.body
    ticket = replace(RISK, subject=SubjectKind.TICKET)
    answers = [(200, b'{"decision": false}'), (200, b'{"decision": true, "context": {"score": 3}}'), (404, b"{}")]
    for number, (point.status, point.body) in enumerate(answers * 2):  # more than `failures_to_open`
        assert await asking.fact(FactKey("risk", f"T-{number}"), ticket) is None
    point.status, point.body = 200, good
    assert await asking.fact() is not None


async def test_an_answer_that_says_nothing_is_a_missing_fact_and_no_fault(asking: Asking, point: DecisionPoint) -> None:
    point.body = b'{"decision": true}'
    assert await asking.fact() is None
    assert asking.events == []


async def test_a_compressed_answer_is_neither_asked_for_nor_unpacked(asking: Asking, point: DecisionPoint) -> None:
    point.headers["content-encoding"] = "gzip"
    point.body = gzip.compress(b'{"decision": true, "context": {"score": 3}}')
    assert await asking.fact() is None
    assert point.asked[0][1]["accept-encoding"] == "identity"
    assert "an encoding that it was not asked for" in asking.log.getvalue()


async def test_an_answer_from_before_a_reload_counts_only_as_the_type_in_force(
    asking: Asking, point: DecisionPoint
) -> None:
    assert await asking.fact() is not None
    changed = replace(RISK, fields={"score": FieldType.DOUBLE})
    fact = await asking.fact(kind=changed)
    assert fact is not None
    assert isinstance(fact.values["score"], float)
    assert len(point.asked) == 2


async def test_a_question_under_way_at_a_reload_is_answered_to_nobody_who_asks_for_another_type(
    asking: Asking, point: DecisionPoint
) -> None:
    point.hold.clear()
    both = asyncio.gather(asking.fact(), asking.fact(kind=replace(RISK, fields={"score": FieldType.STRING})))
    await asyncio.to_thread(eventually, lambda: point.asked)
    point.hold.set()
    before, after = await both
    assert (before is not None, after) == (True, None)


async def test_a_closed_connection_is_a_missing_fact(asking: Asking, point: DecisionPoint) -> None:
    point.headers["content-length"] = "900"  # and then less than that
    assert await asking.fact() is None
    assert asking.events == ["fact_source_away"]


async def test_a_client_that_was_closed_meanwhile_is_a_missing_fact(asking: Asking) -> None:
    await asking.source.close()
    assert await asking.fact() is None


async def test_a_late_answer_is_a_missing_fact(point: DecisionPoint) -> None:
    point.hold.clear()
    asking = Asking(point, timeout=timedelta(milliseconds=50))
    assert await asking.fact() is None
    await asking.source.close()


async def test_nobody_there_is_a_missing_fact_told_once_and_so_is_its_return(
    asking: Asking, point: DecisionPoint
) -> None:
    point.status = 503
    assert await asking.fact() is None
    assert await asking.fact(FactKey("risk", "spiffe://td/b")) is None
    asking.time.seconds = 11
    point.status = 200
    assert await asking.fact() is not None
    assert asking.events == ["fact_source_away", "fact_source_back"]


async def test_an_open_circuit_asks_nobody_and_then_one(asking: Asking, point: DecisionPoint) -> None:
    point.status = 503
    for subject in "abc":
        assert await asking.fact(FactKey("risk", f"spiffe://td/{subject}")) is None
    assert len(point.asked) == 2
    asking.time.seconds = 10
    point.hold.clear()
    both = asyncio.gather(asking.fact(FactKey("risk", "spiffe://td/x")), asking.fact(FactKey("risk", "spiffe://td/y")))
    await asyncio.to_thread(eventually, lambda: len(point.asked) == 3)
    point.hold.set()
    assert list(await both) == [None, None]
    assert len(point.asked) == 3


async def test_an_answer_is_used_again_for_a_short_time_over_one_connection(
    asking: Asking, point: DecisionPoint
) -> None:
    for seconds, asked in ((0, 1), (4.9, 1), (5, 2)):
        asking.time.seconds = seconds
        assert await asking.fact() is not None
        assert len(point.asked) == asked
    assert point.connections == 1


async def test_equal_questions_at_the_same_time_are_asked_once(asking: Asking, point: DecisionPoint) -> None:
    point.hold.clear()
    first = asyncio.ensure_future(asking.fact())
    others = [asyncio.ensure_future(asking.fact()) for _ in range(4)]
    await asyncio.to_thread(eventually, lambda: point.asked)
    first.cancel()  # who gives up does not take the answer from the others
    point.hold.set()
    assert all(fact is not None for fact in await asyncio.gather(*others))
    assert len(point.asked) == 1


async def test_the_bearer_token_is_sent_and_never_told(point: DecisionPoint, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n", encoding="ascii")
    asking = Asking(point, token_file=token_file)
    assert await asking.fact() is not None
    assert point.asked[0][1]["authorization"] == "Bearer s3cret"
    token_file.unlink()
    assert await asking.fact(FactKey("risk", "spiffe://td/b")) is None
    assert "s3cret" not in asking.log.getvalue() + repr(asking.source.settings)
    await asking.source.close()


async def test_a_token_file_that_is_not_text_is_a_missing_fact_and_not_told(
    point: DecisionPoint, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_bytes(b"s3cret\xff")
    asking = Asking(point, token_file=token_file)
    assert await asking.fact() is None
    assert "the token file is not ASCII text" in asking.log.getvalue()
    assert "s3cret" not in asking.log.getvalue()
    await asking.source.close()


async def test_the_book_asks_only_for_what_the_store_does_not_have(asking: Asking, point: DecisionPoint) -> None:
    store = FactStore()
    book = Facts(store, [asking.source])
    other = FactKey("other", SETTLER)
    keys, types = frozenset({KEY, other}), {"risk": RISK, "other": replace(RISK, name="other")}
    asked = await book.known(keys, fact_types=types, now=NOW, caller=caller())
    assert asked[KEY].source == "authzen:posture"
    assert other not in asked
    store.put([risk(7)], NOW)
    known = await book.known(keys, fact_types=types, now=NOW, caller=caller())
    assert known[KEY].values == {"score": 7}
    assert len(point.asked) == 1


def test_a_circuit_closes_after_a_success() -> None:
    time = Time()
    circuit = CircuitBreaker(2, 10, time)
    circuit.failed()
    assert circuit.lets_through()
    circuit.failed()
    assert not circuit.lets_through()
    time.seconds = 10
    assert circuit.lets_through()
    assert not circuit.lets_through()
    circuit.succeeded()
    assert circuit.lets_through()
