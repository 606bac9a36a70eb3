"""Clients where processes fork, are interrupted, and end. Each program is a process of its own.

The forking is never done by the tests' process, which has gRPC's threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from support.deployment import SETTLER, Deployment

SECONDS = 60
COMMON = """
import asyncio, atexit, os, signal, sys, threading, time, warnings
from agent_client import ClientClosed, IssuerClient, SyncIssuerClient
from agent_client.errors import ClientForked

def sync_client(): return SyncIssuerClient(sys.argv[1], workload_api=sys.argv[2], timeout=10)
def sync_ask(client): return client.issue_token("https://ledger.dev.test", ["ledger.read"])
def sync_close(client): client.close()

# One loop in each process: that of the parent is not the child's to run.
loops = {}
def run(coroutine):
    if os.getpid() not in loops:
        loops[os.getpid()] = asyncio.new_event_loop()
        atexit.register(lambda: loops[os.getpid()].close() if os.getpid() in loops else None)
    return loops[os.getpid()].run_until_complete(coroutine)
def aio_client(): return IssuerClient(sys.argv[1], workload_api=sys.argv[2], timeout=10)
def aio_ask(client): return run(client.issue_token("https://ledger.dev.test", ["ledger.read"]))
def aio_close(client): run(client.close())

def refused(ask, client):
    started = time.monotonic()
    try: ask(client)
    except ClientForked as error: assert "fork" in str(error), error
    else: raise AssertionError("it called")
    assert time.monotonic() - started < 1

def in_child(program, number=1):
    children = []
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            warnings.simplefilter("ignore", ResourceWarning)  # the parent's loop is not the child's to close
            program()
            sys.exit(0)  # as a program ends: with all destructors
        children.append(pid)
    ends = [os.waitpid(pid, 0)[1] for pid in children]
    assert not any(ends), ends
"""


@pytest.fixture(scope="module")
def workload(deployment: Deployment) -> str:
    return deployment.authority.workload(SETTLER).socket


@pytest.fixture(params=["", "0", "1"], ids=["as it is", "without", "with"])
def fork_support(request: pytest.FixtureRequest) -> dict[str, str]:
    """What gRPC is told to do about forks."""
    return {"GRPC_ENABLE_FORK_SUPPORT": request.param} if request.param else {}


@pytest.fixture(params=["sync", "aio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Runner:
    def __init__(self, deployment: Deployment, socket: str, kind: str) -> None:
        self._arguments = [deployment.issuer.address, socket]
        self._names = f"make, ask, close = {kind}_client, {kind}_ask, {kind}_close\n"

    def run(self, program: str, **environment: str) -> str:
        """Run a program to its end: in time, with exit code 0, and nothing on standard error but gRPC's own words."""
        code = COMMON + self._names + textwrap.dedent(program)
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *self._arguments],
            env={**os.environ, "GRPC_VERBOSITY": "NONE", **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout


@pytest.fixture
def python(deployment: Deployment, workload: str, kind: str) -> Runner:
    return Runner(deployment, workload, kind)


def test_a_client_that_was_made_and_not_used_works_on_both_sides_of_a_fork(
    python: Runner, fork_support: dict[str, str]
) -> None:
    """As of a server that loads its application before it forks its workers."""
    python.run(
        """
        client = make()
        def child():
            assert ask(client).token
            assert ask(client).token
            close(client)
        in_child(child, number=3)
        assert ask(client).token
        close(client)
        """,
        **fork_support,
    )


@pytest.mark.parametrize(
    ("kind", "fork_support"),
    # With "1", gRPC's own handlers wait in vain for the thread that it has for asyncio: see agent_client/forks.py.
    [("sync", ""), ("sync", "0"), ("sync", "1"), ("aio", ""), ("aio", "0")],
    indirect=True,
)
def test_a_used_client_says_at_once_that_it_cannot_be_used_after_a_fork(
    python: Runner, fork_support: dict[str, str]
) -> None:
    python.run(
        """
        client, unused = make(), make()
        ask(client)
        def child():
            for one in (client, unused, make()):
                refused(ask, one)
                refused(ask, one)
                close(one)
            try: ask(client)
            except ClientClosed: pass
            in_child(lambda: refused(ask, make()))
        in_child(child, number=3)
        assert ask(client).token
        close(client)
        """,
        **fork_support,
    )


def test_no_child_of_many_crashes_although_it_does_nothing(python: Runner) -> None:
    """One in five did, by gRPC's own handlers, while the watcher had its stream open during the fork."""
    python.run(
        """
        client = make()
        ask(client)
        for _ in range(10): in_child(lambda: (time.sleep(0.01), os._exit(0)), number=10)
        assert ask(client).token
        close(client)
        """
    )


def test_the_parent_follows_the_workload_api_again_after_a_fork(
    python: Runner,
) -> None:
    python.run(
        """
        client = make()
        ask(client)
        news = threading.Event()
        client._core.subscribe(lambda _: news.set())
        in_child(lambda: None)
        assert news.wait(10), "it does not follow any more"
        assert client._core.start().last_error is None
        close(client)
        """
    )


def test_the_child_has_no_identity_of_its_parent(python: Runner) -> None:
    python.run(
        """
        client = make()
        ask(client)
        assert client._core.caller
        def child():
            assert client._core.caller is None
            try: client.svid
            except ClientForked: pass
            else: raise AssertionError("it has one")
        in_child(child)
        close(client)
        """
    )


def test_after_all_clients_were_closed_a_child_is_told_too(python: Runner, fork_support: dict[str, str]) -> None:
    """Most would work; gRPC hangs in some."""
    python.run(
        """
        old = make()
        ask(old)
        close(old)
        def child():
            refused(ask, make())
            try: ask(old)
            except ClientClosed: pass
            else: raise AssertionError("it was closed before")
        in_child(child, number=3)
        """,
        **fork_support,
    )


@pytest.mark.parametrize("kind", ["sync"])
def test_a_fork_amid_calls_of_other_threads_harms_neither_side(python: Runner) -> None:
    """Locks of those threads stay locked in the child. (Where gRPC is told to support forks, it hangs there itself.)"""
    python.run(
        """
        client = make()
        ask(client)
        stop = threading.Event()
        failed = []
        def calls():
            while not stop.is_set():
                try: ask(client)
                except BaseException as error: failed.append(error)
        threads = [threading.Thread(target=calls) for _ in range(4)]
        for thread in threads: thread.start()
        def child():
            refused(ask, client)
            refused(ask, make())
            close(client)
            os._exit(0)  # threading would wait for the parent's threads
        for _ in range(20): in_child(child)
        stop.set()
        for thread in threads: thread.join()
        assert not failed, failed[0]
        close(client)
        """,
        GRPC_ENABLE_FORK_SUPPORT="0",
    )


def test_workers_of_multiprocessing_are_refused_or_work(python: Runner) -> None:
    python.run(
        """
        import multiprocessing
        fork = multiprocessing.get_context("fork")
        client = make()
        def works(_): return bool(ask(client).token)
        with fork.Pool(2) as pool: assert pool.map(works, range(4)) == [True] * 4
        ask(client)
        def is_refused(_): refused(ask, client); return True
        with fork.Pool(2) as pool: assert pool.map(is_refused, range(4)) == [True] * 4
        ask(client)
        close(client)
        """
    )


def test_a_callback_is_called_in_the_child_as_long_as_its_owner_lives(python: Runner) -> None:
    python.run(
        """
        class Cache:
            def __init__(self): self.tokens = ["secret"]
            def forget(self): self.tokens.clear()
        client, cache = make(), Cache()
        client._core.on_fork(cache.forget)
        def child(): assert not cache.tokens
        in_child(child)
        assert cache.tokens
        import weakref
        gone = weakref.ref(cache)
        del cache
        assert gone() is None
        in_child(lambda: None)
        """
    )


@pytest.mark.parametrize(
    "used", ["", "ask(client)", "ask(client); other = make(); ask(other)"], ids=["unused", "used", "two"]
)
def test_a_program_may_end_without_closing(python: Runner, used: str) -> None:
    python.run(f"client = make(); {used}")


def test_a_program_may_end_while_calls_are_under_way(python: Runner) -> None:
    python.run(
        """
        client = make()
        ask(client)
        def calls():
            while True: ask(client)
        if ask is sync_ask:
            for _ in range(3): threading.Thread(target=calls, daemon=True).start()
            time.sleep(0.1)
        """
    )


@pytest.mark.parametrize("kind", ["sync"])
def test_closing_in_another_thread_and_twice_at_once(python: Runner) -> None:
    python.run(
        """
        for _ in range(10):
            client = make()
            ask(client)
            ended = []
            def calls():
                try:
                    while True: ask(client)
                except BaseException as error: ended.append(error)
            threads = [threading.Thread(target=calls) for _ in range(4)]
            threads += [threading.Thread(target=client.close) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join(20)
            assert [type(error) for error in ended] == [ClientClosed] * 4, ended
            client.close()
        """
    )


@pytest.mark.parametrize("kind", ["aio"])
def test_closing_twice_at_once_and_being_cancelled_meanwhile(python: Runner) -> None:
    python.run(
        """
        async def main():
            for _ in range(10):
                client = make()
                call = lambda: client.issue_token("https://ledger.dev.test", ["ledger.read"])
                await call()
                calls = [asyncio.ensure_future(call()) for _ in range(10)]
                await asyncio.sleep(0)
                closings = [asyncio.ensure_future(client.close()) for _ in range(3)]
                await asyncio.sleep(0)
                closings[0].cancel()
                await asyncio.gather(*closings, return_exceptions=True)
                results = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(result, ClientClosed) or result.token for result in results), results
            while any(thread.name == "workload-api" for thread in threading.enumerate()): await asyncio.sleep(0.01)
        asyncio.run(main())
        """
    )


@pytest.mark.parametrize("kind", ["sync"])
def test_interrupts_leave_no_call_counted(python: Runner) -> None:
    """A KeyboardInterrupt strikes anywhere; a call that stayed counted would keep its connection for good."""
    interrupted = python.run(
        """
        import itertools, random
        client = make()
        ask(client)
        core = client._core
        def interrupt():
            while True:
                time.sleep(random.uniform(0.0005, 0.003))
                if armed.is_set(): armed.clear(); os.kill(os.getpid(), signal.SIGINT)
        armed = threading.Event()
        threading.Thread(target=interrupt, daemon=True).start()
        interrupts = 0
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                armed.set()
                while armed.is_set(): ask(client)
                time.sleep(1)  # it comes by now, at the latest
            except KeyboardInterrupt: interrupts += 1
            under_way = [health.under_way for health in core.balancer._health.values()]
            leased = [channel.calls for channel in core.channels._newest.values()]
            assert not any(under_way) and not any(leased), (under_way, leased)
        assert ask(client).token
        client.close()
        print(interrupts)
        """
    )
    assert int(interrupted) > 50
