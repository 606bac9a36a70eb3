"""What holds for sources of threads alone."""

from __future__ import annotations

import linecache
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.kept_tokens import REQUEST, SETTLER, arrival, token
from support.scripted_tokens import WITHIN, InThreads, Script, seconds

from agent_client.clock import elapsed
from agent_client.errors import PolicyDenied
from agent_client.tokens import cache, entry, sync
from agent_client.tokens.sync import SyncTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.tokens.entry import Arrival
    from agent_client.tokens.sync import SyncTokenSource

OURS = {module.__file__ for module in (cache, entry, sync)}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def sources(script: Script) -> Iterator[InThreads]:
    made = InThreads(script)
    yield made
    script.end()
    made.end()


def test_who_asked_gets_the_error_itself_with_its_cause(sources: InThreads, script: Script) -> None:
    asked = sources.ask(sources.source(REQUEST))
    denied = PolicyDenied("no")
    denied.__cause__ = OSError("wire")
    script.call().fail(denied)
    assert asked.exception(WITHIN) is denied
    assert isinstance(denied.__cause__, OSError)


def test_who_is_interrupted_in_a_call_strands_nobody(sources: InThreads, script: Script) -> None:
    source = sources.source(REQUEST)
    leader = sources.ask(source)
    call = script.call()
    waiters = sources.ask_many(source, 5)
    call.fail(KeyboardInterrupt())
    assert isinstance(leader.exception(WITHIN), KeyboardInterrupt)
    issued = script.call().bring()
    assert all(waiter.result(WITHIN) is issued for waiter in waiters)
    assert script.begun == 2


class Interrupted:
    """``get()`` of one thread, interrupted at the n-th line of ours, while another one waits for its call."""

    def __init__(self, line: int) -> None:
        self.tokens = SyncTokens(self._issue, seconds, lambda: SETTLER)
        self.source: SyncTokenSource = self.tokens.source(REQUEST, keep_fresh=False)
        self.waiter: Future[IssuedToken] = Future()
        self.waiting: threading.Thread | None = None
        self._left = line

    def get(self) -> bool:
        """Return whether it came to its end before the interruption."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            self.source.get()
        except KeyboardInterrupt:
            return False
        finally:
            sys.settrace(before)
        return True

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in OURS:
            return None
        # Not at a "with": its end is traced as its line again, between which and the lock no signal strikes.
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with "
        ):
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self._trace

    def _issue(self, request: TokenRequest, _: float) -> Arrival:
        if self.waiting is None:
            self.waiting = threading.Thread(target=self._wait, daemon=True)
            self.waiting.start()
            eventually(lambda: self.tokens.entry(request).used)
        return arrival(token(), elapsed())

    def _wait(self) -> None:
        self.waiter.set_result(self.source.get(timeout=WITHIN))


def test_an_interruption_at_any_line_strands_nobody() -> None:
    for line in range(1, 1000):
        interrupted = Interrupted(line)
        whole = interrupted.get()
        assert interrupted.source.get(timeout=1.0), f"line {line}"
        if interrupted.waiting is not None:
            assert interrupted.waiter.result(WITHIN / 4), f"line {line}"
        interrupted.tokens.close()
        if whole:
            break
    assert 30 < line < 1000


def test_a_host_without_a_thread_to_spare_still_hands_tokens_out(
    sources: InThreads, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "token-renewal":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    source = sources.source(REQUEST)
    script.on_call = lambda call: call.bring(age=58.0)
    issued = sources.get(source)
    for _ in range(20):
        assert sources.get(source) is issued
    assert script.begun == 1
    monkeypatch.setattr(threading.Thread, "start", start)
    assert eventually(lambda: sources.get(source) is not issued)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_renewal_that_ends_its_thread_ends_no_other(sources: InThreads, script: Script) -> None:
    source = sources.source(REQUEST, keep_fresh=True)
    asked = sources.ask(source)
    script.call().bring(age=58.0)
    asked.result(WITHIN)
    script.call().fail(SystemExit())
    second = script.call().bring()
    assert eventually(lambda: sources.get(source) is second)


def test_renewals_keep_no_process_alive(sources: InThreads, script: Script) -> None:
    source = sources.source(REQUEST, keep_fresh=True)
    script.on_call = lambda call: call.bring(token(lifetime=1.0, advised=0.0))
    sources.get(source)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "token-renewal")
