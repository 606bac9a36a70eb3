"""Sources of tokens of both clients against a real issuer, which is stopped, killed and asked to refuse."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from support.clients import claims_of
from support.deployment import LEDGER, READER, SETTLER, Deployment
from support.eventually import eventually

from agent_client import IssuerClient, IssuerUnavailable, ScopeNotAllowed, SyncIssuerClient
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from agent_client import IssuedToken
    from issuer_testing.spire.embedded import EmbeddedWorkload

READ = ["ledger.read"]
POLICY = f"""\
version: 1
min_ttl: 1s
audiences:
  - name: {LEDGER}
    application: ledger
    max_ttl: 10m
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.write, risk: high}}
grants:
  - id: settlement
    owner: payments-team
    workloads: ["{SETTLER}", "{READER}"]
    application: payments
    audience: {LEDGER}
    scopes: [ledger.read]
"""
AT_ONCE = 0.001
"""Seconds in which the issuer is not to be asked: a get() that has to fails."""
WITHIN = 30.0


class InALoop:
    """The asyncio client in a loop that runs in a thread of its own, so that renewals go on between calls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._client = IssuerClient(*args, **options)

    def tokens_for(self, *args: Any, **options: Any) -> SourceInALoop:
        return SourceInALoop(self, self._client.tokens_for(*args, **options))

    def begin(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.begin(self._client.close()).result(WITHIN)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class SourceInALoop:
    def __init__(self, client: InALoop, source: Any) -> None:
        self._client, self._source = client, source

    def get(self, *, timeout: float | None = None) -> IssuedToken:
        issued: IssuedToken = self._client.begin(self._source.get(timeout=timeout)).result(WITHIN)
        return issued

    def wait_for_next(self, known: IssuedToken, timeout: float) -> IssuedToken | None:
        issued: IssuedToken | None = self._client.begin(self._source.wait_for_next(known, timeout)).result(
            WITHIN + timeout
        )
        return issued

    def invalidate(self, refused: IssuedToken) -> None:
        self._client.loop.call_soon_threadsafe(self._source.invalidate, refused)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=POLICY) as running:
        yield running


@pytest.fixture
def own_deployment(tmp_path: Path) -> Iterator[Deployment]:
    """An issuer of the test's own, to be stopped."""
    with Deployment(tmp_path, policy=POLICY) as running:
        yield running


@pytest.fixture
def workload(deployment: Deployment) -> EmbeddedWorkload:
    return deployment.authority.workload(SETTLER)


@pytest.fixture(params=[SyncIssuerClient, InALoop], ids=["sync", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(kind: Any, deployment: Deployment, workload: EmbeddedWorkload) -> Iterator[Any]:
    with kind(deployment.issuer.address, workload_api=workload.socket) as made:
        yield made


def calls_since(deployment: Deployment, line: int) -> int:
    return sum(entry.get("event") == "rpc" for entry in deployment.issuer.log()[line:])


def seconds_until_none_is_handed_out(source: Any) -> float:
    """Use a source all the time until it has nothing at once, and return how long that took."""
    started = time.monotonic()
    while True:
        try:
            source.get(timeout=AT_ONCE)
        except IssuerUnavailable:
            return time.monotonic() - started
        threading.Event().wait(0.02)


def test_a_token_is_renewed_before_it_ends_and_nobody_waits(client: Any) -> None:
    source = client.tokens_for(LEDGER, READ, ttl=timedelta(seconds=3))
    seen = {source.get().token_id}
    deadline = time.monotonic() + WITHIN
    while len(seen) < 4 and time.monotonic() < deadline:
        seen.add(source.get(timeout=AT_ONCE).token_id)
        threading.Event().wait(0.02)
    assert len(seen) == 4


def test_what_nobody_asks_for_is_renewed_if_it_is_to_be_kept_fresh(client: Any) -> None:
    source = client.tokens_for(LEDGER, READ, ttl=timedelta(seconds=3), keep_fresh=True)
    known = source.get()
    for _ in range(3):
        known, before = source.wait_for_next(known, WITHIN), known
        assert known is not None
        assert before.expires_at < known.expires_at < before.expires_at + timedelta(seconds=3)


def test_an_issuer_that_hangs_costs_nobody_time_while_the_token_lives(kind: Any, own_deployment: Deployment) -> None:
    workload = own_deployment.authority.workload(SETTLER)
    with kind(own_deployment.issuer.address, workload_api=workload.socket) as client:
        source = client.tokens_for(LEDGER, READ, ttl=timedelta(seconds=6))
        asked_at = time.monotonic()
        source.get()
        own_deployment.issuer.signal(signal.SIGSTOP)
        try:
            seconds_until_none_is_handed_out(source)
            assert 5.9 < time.monotonic() - asked_at < 7
            began = time.monotonic()
            with pytest.raises(IssuerUnavailable):
                source.get(timeout=0.5)
            assert time.monotonic() - began < 5
        finally:
            own_deployment.issuer.signal(signal.SIGCONT)
        assert source.get(timeout=WITHIN)


def test_an_issuer_that_was_killed_costs_nobody_time_while_the_token_lives(kind: Any, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with Deployment(tmp_path, policy=POLICY, options={"server": {"listen": listen}}) as deployment:
        workload = deployment.authority.workload(SETTLER)
        with kind(listen, workload_api=workload.socket) as client:
            source = client.tokens_for(LEDGER, READ, ttl=timedelta(seconds=6))
            asked_at = time.monotonic()
            source.get()
            deployment.issuer.signal(signal.SIGKILL)
            deployment.issuer.wait()
            seconds_until_none_is_handed_out(source)
            assert 5.9 < time.monotonic() - asked_at < 7
            began = time.monotonic()
            with pytest.raises(IssuerUnavailable):
                source.get(timeout=0.5)
            assert time.monotonic() - began < 5
            deployment.issuer.spawn()
            assert source.get(timeout=WITHIN)
            deployment.issuer.wait_for("readiness", serving=True)


def test_a_renewal_that_an_outage_disturbed_succeeds_once_it_is_over(kind: Any, own_deployment: Deployment) -> None:
    """Nobody who asks meanwhile learns of it."""
    workload = own_deployment.authority.workload(SETTLER)
    with kind(own_deployment.issuer.address, workload_api=workload.socket) as client:
        source = client.tokens_for(LEDGER, READ, ttl=timedelta(seconds=12))
        known = source.get()
        own_deployment.issuer.signal(signal.SIGSTOP)
        until = time.monotonic() + 7  # its renewal is due after 3 to 5.4 s
        while time.monotonic() < until:
            assert source.get(timeout=AT_ONCE) is known
            threading.Event().wait(0.05)
        own_deployment.issuer.signal(signal.SIGCONT)
        while source.get(timeout=AT_ONCE) is known:
            threading.Event().wait(0.05)


def test_another_svid_replaces_bound_tokens_and_no_others(
    client: Any, deployment: Deployment, workload: EmbeddedWorkload
) -> None:
    bound, free = (client.tokens_for(LEDGER, READ, bind_certificate=binding) for binding in (True, False))
    before, kept = bound.get(), free.get()
    deployment.authority.rotate(workload)
    eventually(lambda: bound.get() is not before)
    assert claims_of(bound.get())["cnf"] != claims_of(before)["cnf"]
    assert free.get(timeout=AT_ONCE) is kept


def test_another_identity_replaces_every_token(client: Any, deployment: Deployment, workload: EmbeddedWorkload) -> None:
    source = client.tokens_for(LEDGER, READ)
    assert claims_of(source.get())["sub"] == SETTLER
    workload.api.change(svids=(deployment.svid(READER),))
    eventually(lambda: claims_of(source.get())["sub"] == READER)
    workload.api.change(svids=(deployment.svid(SETTLER),))
    eventually(lambda: claims_of(source.get())["sub"] == SETTLER)


def test_a_refusal_is_asked_for_once_in_a_while(client: Any, deployment: Deployment) -> None:
    source = client.tokens_for(LEDGER, ["ledger.write"])
    line, began = len(deployment.issuer.log()), time.monotonic()
    for _ in range(1000):
        with pytest.raises(ScopeNotAllowed, match="decision"):
            source.get()
    taken = time.monotonic() - began
    deployment.issuer.wait_for("rpc", after=line)
    assert 1 <= calls_since(deployment, line) <= 1 + taken / 0.5


def test_a_token_that_a_resource_server_refused_is_replaced(client: Any) -> None:
    source = client.tokens_for(LEDGER, READ)
    refused = source.get()
    source.invalidate(refused)
    replaced = source.get()
    assert replaced.token_id != refused.token_id
    source.invalidate(replaced)
    assert source.get(timeout=AT_ONCE) is replaced


async def test_ten_thousand_tasks_that_ask_first_make_one_call(
    deployment: Deployment, workload: EmbeddedWorkload
) -> None:
    line = len(deployment.issuer.log())
    async with IssuerClient(deployment.issuer.address, workload_api=workload.socket) as client:
        source = client.tokens_for(LEDGER, READ)
        issued = await asyncio.gather(*(source.get() for _ in range(10_000)))
    deployment.issuer.wait_for("rpc", after=line)
    assert len({each.token_id for each in issued}) == 1
    assert calls_since(deployment, line) == 1


IN_A_CHILD = textwrap.dedent(
    """
    import asyncio, os, sys
    from agent_client import IssuerClient, SyncIssuerClient
    from agent_client.errors import ClientForked

    address, socket, audience, kind = sys.argv[1:]


    def ends_in_a_child(get):
        child = os.fork()
        if child == 0:
            try:
                get()
            except ClientForked:
                os._exit(7)
            os._exit(1)  # it has the parent's token
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


    async def use():
        async with IssuerClient(address, workload_api=socket) as client:
            source = client.tokens_for(audience, ["ledger.read"], keep_fresh=True)
            issued = await source.get()
            code = await asyncio.to_thread(ends_in_a_child, lambda: asyncio.run(source.get()))
            assert await source.get() is issued
        return code


    if kind == "asyncio":
        sys.exit(asyncio.run(use()))
    with SyncIssuerClient(address, workload_api=socket) as client:
        source = client.tokens_for(audience, ["ledger.read"], keep_fresh=True)
        issued = source.get()
        code = ends_in_a_child(source.get)
        assert source.get() is issued
    sys.exit(code)
    """
)


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_the_child_of_a_fork_is_handed_no_token_of_its_parent(
    kind: str, deployment: Deployment, workload: EmbeddedWorkload
) -> None:
    program = [sys.executable, "-c", IN_A_CHILD, deployment.issuer.address, workload.socket, LEDGER, kind]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (7, ""), ended.stderr
    assert "pending" not in ended.stderr
