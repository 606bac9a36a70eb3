"""A resource server that follows revocations: how soon it refuses a revoked token, and what it does in the dark."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from support.deployment import LEDGER, SETTLER
from support.eventually import eventually_true
from support.revocations import MAIL, MAIL_SERVER, SERVED, SERVER, Revocable

from agent_client import IssuerClient, SyncIssuerClient
from agent_client.verification import (
    AsyncRevocationStream,
    IssuerKeys,
    RejectionReason,
    RevocationStream,
    RevocationsUnavailable,
    TokenRejected,
    TokenVerifier,
)
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ, LIST = "ledger.read", "ledger.list"
LISTING = pb.IssueTokenRequest(audience=LEDGER, scopes=[READ, LIST])
POLICY = SERVED.replace("scopes: [ledger.read, led", f"scopes: [{LIST}, ledger.read, led").replace(
    "      - {name: ledger.write", f"      - {{name: {LIST}, risk: low}}\n      - {{name: ledger.write", 1
)
SHORT = timedelta(seconds=5)
"""The shortest silence that a stream can be told of."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Revocable]:
    """An issuer that comes back at the same address."""
    listen: dict[str, object] = {"listen": f"127.0.0.1:{free_port()}"}
    with Revocable(tmp_path, POLICY, server=listen) as deployment:
        yield deployment


class Api:
    """A resource server, as far as it verifies."""

    def __init__(self, deployment: Revocable, spiffe_id: str = SERVER, *, ttl: int = 0, **options: Any) -> None:
        self._deployment = deployment
        self._stack = ExitStack()
        self.workload = deployment.authority.workload(Entry(spiffe_id, x509_svid_ttl=ttl))
        self.client = self._stack.enter_context(
            SyncIssuerClient(deployment.issuer.address, workload_api=self.workload.socket)
        )
        self.revocations = self._stack.enter_context(RevocationStream(self.client, **options))
        self.keys = IssuerKeys(self.client)
        self.verifier = self.verifier_of(LEDGER)
        self.verifier.warm_up()

    def __enter__(self) -> Self:
        assert self.revocations.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def verifier_of(self, audience: str, issuer: str = "") -> TokenVerifier:
        return TokenVerifier(
            issuer or self._deployment.issuer.url,
            audience,
            keys=self.keys,
            insecure_dev=True,
            revocations=self.revocations,
        )

    def outcome(self, issued: pb.IssueTokenResponse, verifier: TokenVerifier | None = None) -> str:
        """Return ``OK``, the reason of a rejection, or the kind of error."""
        try:
            (verifier or self.verifier).verify(issued.token)
        except TokenRejected as error:
            return error.reason
        except RevocationsUnavailable as error:
            return type(error).__name__
        return "OK"

    def becomes(self, outcome: str, issued: pb.IssueTokenResponse, within: float = 20) -> float:
        """Wait for an outcome; return after how many seconds it came."""
        began = time.monotonic()
        wait_until(lambda: self.outcome(issued) == outcome, what=f"the token is {outcome}", seconds=within)
        return time.monotonic() - began


UNKNOWN = RevocationsUnavailable.__name__


@pytest.mark.parametrize(
    "selector",
    [
        {"workload": SETTLER},
        {"workload": "spiffe://dev.test/ns/*/sa/settler"},
        {"workload": "spiffe://dev.test/ns/**", "audience": LEDGER},
        {"application": "payments"},
        {"audience": LEDGER},
        {"rule": "settlement"},
        {"everything": True},
        {"token_id": ""},
    ],
    ids=str,
)
def test_a_revoked_token_is_refused_within_a_second_and_others_are_not(
    served: Revocable, selector: dict[str, Any]
) -> None:
    issued = served.issued()
    if "token_id" in selector:
        selector = {"token_id": issued.token_id}
    with Api(served) as api:
        assert api.outcome(issued) == "OK"
        made = served.revoke(**selector).revocation
        assert api.becomes(RejectionReason.REVOKED, issued) < 1
        if made.stops_issuance:
            served.lift(made.revocation_id)
        # `iat` counts seconds: what was issued in that of the revocation, or of its lift, is taken for dead.
        wait_until(
            lambda: served.outcome() == "OK" and api.outcome(served.issued()) == "OK", what="it goes on", seconds=5
        )
        assert api.outcome(issued) == RejectionReason.REVOKED


def test_what_was_revoked_before_the_server_started_is_known_at_once(served: Revocable) -> None:
    issued, other = served.issued(), served.issued()
    served.revoke(token_id=issued.token_id)
    with Api(served) as api:
        assert (api.outcome(issued), api.outcome(other)) == (RejectionReason.REVOKED, "OK")


def test_while_the_issuer_is_away_known_tokens_stay_dead_and_others_end_by_their_scopes(served: Revocable) -> None:
    read, listing, dead = served.issued(), served.issued(request=LISTING), served.issued()
    served.revoke(token_id=dead.token_id)
    with Api(served, max_silence=SHORT, unknown_allowed=[READ]) as api:
        assert [api.outcome(each) for each in (read, listing)] == ["OK", "OK"]
        served.issuer.signal(signal.SIGKILL)
        served.issuer.wait()
        assert api.outcome(listing) == "OK", "not yet: it was heard a moment ago"
        assert api.becomes(UNKNOWN, listing) <= SHORT.total_seconds() + 1
        assert (api.outcome(read), api.outcome(dead)) == ("OK", RejectionReason.REVOKED)
        assert not api.revocations.is_current
        served.issuer.start()
        api.becomes("OK", listing)
        assert api.outcome(dead) == RejectionReason.REVOKED


def test_after_a_restart_it_goes_on_where_it_was_and_misses_nothing(served: Revocable) -> None:
    one, two = served.issued(), served.issued()
    with Api(served) as api:
        served.revoke(token_id=one.token_id)
        served.issuer.signal(signal.SIGKILL)
        served.issuer.wait()
        served.issuer.start()
        served.revoke(token_id=two.token_id)  # before the stream is there again, or just after
        for issued in (one, two):
            api.becomes(RejectionReason.REVOKED, issued)
        assert api.revocations.kept == 2
    told = wait_until(lambda: streams_logged(served), what="the stream is logged", seconds=10)
    assert told[-1]["resumed"], "not all was told again"


def streams_logged(served: Revocable) -> list[dict[str, Any]]:
    return [line for line in served.issuer.log() if str(line.get("method")).endswith("WatchRevocations")]


def test_a_server_that_serves_another_audience_only_is_not_taken_for_informed(served: Revocable) -> None:
    issued = served.issued()
    with Api(served, MAIL_SERVER) as api:
        assert api.outcome(issued) == UNKNOWN
        mail = served.issued(request=pb.IssueTokenRequest(audience=MAIL, scopes=["mail.send"]))
        assert api.outcome(mail, api.verifier_of(MAIL)) == "OK"


def test_the_stream_of_another_issuer_says_nothing_about_a_token(served: Revocable, tmp_path: Path) -> None:
    issued = served.issued()
    folder = tmp_path / "other"
    folder.mkdir()
    with Revocable(folder, POLICY) as other, Api(served) as api, Api(other, unknown_allowed=[READ]) as stranger:
        verifier = TokenVerifier(
            served.issuer.url, LEDGER, keys=api.keys, insecure_dev=True, revocations=stranger.revocations
        )
        assert api.outcome(issued, verifier) == "OK", "its scope is open"
        assert api.outcome(served.issued(request=LISTING), verifier) == UNKNOWN


def test_who_may_not_follow_knows_nothing(served: Revocable) -> None:
    with (
        SyncIssuerClient(served.issuer.address, workload_api=served.authority.workload(SETTLER).socket) as client,
        RevocationStream(client) as stream,
    ):
        assert not stream.wait(1)
        assert not stream.is_current


def test_a_rotated_svid_does_not_interrupt_it(served: Revocable) -> None:
    """The issuer ends a stream with the SVID that it was begun with."""
    with Api(served, ttl=10, max_silence=SHORT) as api:
        issued = served.issued(request=LISTING)
        first = api.client.svid.not_after
        wait_until(lambda: api.outcome(issued) == "OK" and time.time() > first.timestamp() + 1, what="", seconds=30)
        assert api.client.svid.not_after > first
        served.revoke(token_id=issued.token_id)
        assert api.becomes(RejectionReason.REVOKED, issued) < 1


def test_with_more_than_it_may_keep_it_knows_nothing(served: Revocable) -> None:
    issued, spare = served.issued(), served.issued()
    with Api(served, max_kept=1) as api:
        served.revoke(token_id=issued.token_id)
        api.becomes(RejectionReason.REVOKED, issued)
        served.revoke(workload="spiffe://dev.test/one-too-many")
        api.becomes(UNKNOWN, spare)
        assert api.outcome(issued) == RejectionReason.REVOKED, "what is known stays in force"
        assert api.revocations.kept <= 1


def test_a_closed_stream_gets_old(served: Revocable) -> None:
    issued = served.issued()
    with Api(served, max_silence=SHORT) as api:
        api.revocations.close()
        api.revocations.close()
        assert api.outcome(issued) == "OK"
        assert api.becomes(UNKNOWN, issued) <= SHORT.total_seconds() + 1


async def test_in_an_event_loop_it_does_the_same(served: Revocable) -> None:
    issued, other = await asyncio.to_thread(lambda: (served.issued(), served.issued()))
    workload = served.authority.workload(Entry(SERVER, x509_svid_ttl=10))
    keys = SyncIssuerClient(served.issuer.address, workload_api=workload.socket)
    async with (
        IssuerClient(served.issuer.address, workload_api=workload.socket) as client,
        AsyncRevocationStream(client, max_silence=SHORT) as stream,
    ):
        verifier = TokenVerifier(
            served.issuer.url, LEDGER, keys=IssuerKeys(keys), insecure_dev=True, revocations=stream
        )
        assert await stream.wait(10)
        await verifier.verify_async(issued.token)
        await asyncio.to_thread(served.revoke, token_id=issued.token_id)
        await eventually_true(lambda: stream.kept == 1, within=1)
        with pytest.raises(TokenRejected) as rejected:
            await verifier.verify_async(issued.token)
        assert rejected.value.reason is RejectionReason.REVOKED
        first = client.svid
        await eventually_true(lambda: time.time() > first.not_after.timestamp() + 1)  # past the SVID it began with
        await verifier.verify_async(other.token)
        served.issuer.signal(signal.SIGKILL)
        await eventually_true(lambda: not stream.is_current)
        with pytest.raises(RevocationsUnavailable):
            await verifier.verify_async(other.token)
        await asyncio.to_thread(lambda: (served.issuer.wait(), served.issuer.start()))
        assert await stream.wait(20)
        await verifier.verify_async(other.token)
    await stream.close()
    await asyncio.to_thread(keys.close)


def test_an_issuer_that_hangs_is_noticed_and_followed_again_when_it_is_back(served: Revocable) -> None:
    issued = served.issued()
    with Api(served, max_silence=SHORT) as api:
        served.issuer.signal(signal.SIGSTOP)
        try:
            assert api.becomes(UNKNOWN, issued) <= SHORT.total_seconds() + 1
        finally:
            served.issuer.signal(signal.SIGCONT)
        api.becomes("OK", issued)
        served.revoke(token_id=issued.token_id)
        assert api.becomes(RejectionReason.REVOKED, issued) < 1


FORKING = """
import os, sys
from datetime import timedelta
from agent_client import SyncIssuerClient
from agent_client.verification import RevocationStream

client = SyncIssuerClient(sys.argv[1], workload_api=sys.argv[2])
stream = RevocationStream(client)          # made before the fork, used after it, as a preforking server does
child = os.fork()
known = stream.wait(20)
if child == 0:
    os._exit(0 if known else 1)
parked = os.fork()                          # and a fork while it is followed, as by subprocess
if parked == 0:
    os._exit(0)
ended = [os.waitpid(each, 0)[1] for each in (child, parked)]
print(known, stream.is_current, ended)
stream.close()
client.close()
"""


def test_servers_that_fork_follow_in_each_process(served: Revocable) -> None:
    workload = served.authority.workload(SERVER)
    command = [sys.executable, "-c", FORKING, served.issuer.address, workload.socket]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.stdout.strip() == "True True [0, 0]", answer.stderr
