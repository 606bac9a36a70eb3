"""The stream of revocations on a real server: what a verifier learns, how soon, and what it misses: nothing."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.deployment import DEADLINE, LEDGER, SETTLER, reason_of
from support.eventually import eventually
from support.revocations import MAIL, MAIL_SERVER, SERVED, SERVER, Revocable

from issuer.revocation_feed import HEARTBEAT_SECONDS
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Revocable]:
    with Revocable(tmp_path, SERVED) as deployment:
        yield deployment


class Stream:
    """What a server hears."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.position = -1

    def news(self) -> list[pb.DeadTokens]:
        """Return what is told until a position is."""
        heard: list[pb.DeadTokens] = []
        for message in self._call:
            heard += message.dead
            if message.HasField("position"):
                self.position = message.position
                return heard
        raise AssertionError("the stream ended")

    def hear_the_end(self) -> None:
        """Return when the issuer ends the stream, which is no error."""
        for _ in self._call:
            pass

    def next_news(self) -> list[pb.DeadTokens]:
        """Return the next that is told, past heartbeats."""
        while not (heard := self.news()):
            pass
        return heard


def listen(stream: Stream, heard: list[list[pb.DeadTokens]]) -> None:
    with suppress(grpc.RpcError):  # until it is cancelled
        while True:
            heard.append(stream.news())


@contextmanager
def following(deployment: Revocable, caller: str = SERVER, after: int | None = None) -> Iterator[Stream]:
    with deployment.stub(deployment.svid(caller)) as stub:
        call = stub.WatchRevocations(pb.WatchRevocationsRequest(after=after), timeout=60)
        try:
            yield Stream(call)
        finally:
            call.cancel()


def test_at_first_all_is_told_then_each_change_soon(served: Revocable) -> None:
    token = served.issued()
    served.revoke(token_id=token.token_id)
    served.revoke(workload="spiffe://dev.test/ns/*/sa/x")
    with following(served) as stream:
        single, pattern = stream.news()
        assert (list(single.token_ids), single.audience, single.revocation_id) == ([token.token_id], LEDGER, "")
        assert (pattern.workload, pattern.HasField("issued_until")) == ("spiffe://dev.test/ns/*/sa/x", False)
        assert stream.position == 2
        started = monotonic()
        made = served.revoke(application="payments").revocation
        [dead] = stream.next_news()
        assert monotonic() - started < 1
        assert (dead.revocation_id, dead.application, stream.position) == (made.revocation_id, "payments", 3)
        lifted = served.lift(made.revocation_id)
        [dead] = stream.next_news()
        assert dead.revocation_id == made.revocation_id
        assert dead.issued_until.seconds == lifted.lift_time.seconds, "what is issued from now on is alive"


def test_without_a_stop_what_was_issued_until_then_is_dead(served: Revocable) -> None:
    made = served.revoke(audience=LEDGER, stops_issuance=False).revocation
    with following(served) as stream:
        [dead] = stream.news()
    assert dead.issued_until.seconds == made.make_time.seconds


def test_what_only_the_issuer_can_judge_is_told_token_by_token(served: Revocable) -> None:
    before = [served.issued().token_id for _ in range(3)]
    made = served.revoke(rule="settlement").revocation
    served.lift(made.revocation_id)
    after = served.issued().token_id
    with following(served) as stream:
        [dead] = stream.news()
    assert (sorted(dead.token_ids), dead.audience) == (sorted(before), LEDGER)
    assert after not in dead.token_ids


def test_a_server_hears_of_its_own_audiences_alone(served: Revocable) -> None:
    mail = served.issued(request=pb.IssueTokenRequest(audience=MAIL, scopes=["mail.send"]))
    served.revoke(token_id=mail.token_id)
    served.revoke(rule="mailing")
    served.revoke(audience=MAIL)
    with following(served) as stream:
        assert stream.news() == []
    with following(served, MAIL_SERVER) as stream:
        single, expanded, audience = stream.news()
    assert [list(single.token_ids), list(expanded.token_ids)] == [[mail.token_id]] * 2
    assert audience.audience == MAIL


def test_who_serves_nothing_hears_nothing(served: Revocable) -> None:
    with following(served, SETTLER) as stream, pytest.raises(grpc.RpcError) as refused:
        stream.news()
    assert reason_of(refused.value) == "RPC_NOT_ALLOWED"


def test_a_server_that_hears_nothing_new_hears_that(served: Revocable) -> None:
    with following(served) as stream:
        started = monotonic()
        assert [stream.news() for _ in range(3)] == [[], [], []]
        assert 2 < monotonic() - started < 10


def test_a_stream_that_is_resumed_after_a_crash_misses_nothing(served: Revocable) -> None:
    served.revoke(workload="spiffe://dev.test/known")
    with following(served) as stream:
        assert len(stream.news()) == 1
        position = stream.position
    missed = [served.revoke(workload="spiffe://dev.test/missed").revocation.revocation_id]
    served.issuer.signal(signal.SIGKILL)
    served.issuer.wait()
    served.issuer.start()
    missed.append(served.revoke(workload="spiffe://dev.test/later").revocation.revocation_id)
    with following(served, after=position) as stream:
        assert [dead.revocation_id for dead in stream.news()] == missed
    with following(served, after=10**6) as stream:
        assert len(stream.news()) == 3, "a position of another ledger is none: all is told"


def test_while_the_ledger_is_away_no_position_is_told(served: Revocable, tmp_path: Path) -> None:
    ledger = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    heard: list[list[pb.DeadTokens]] = []
    with following(served) as stream:
        stream.news()
        ledger.rename(ledger.with_name("away"))
        assert served.outcome() == "LEDGER_UNAVAILABLE"
        listening = Thread(target=listen, args=(stream, heard))
        listening.start()
        listening.join(HEARTBEAT_SECONDS)  # one position may have been on its way
        before = len(heard)
        listening.join(2 * HEARTBEAT_SECONDS)
        assert len(heard) == before, "it does not know what was revoked meanwhile, and says nothing"
        ledger.with_name("away").rename(ledger)
        assert eventually(lambda: served.outcome() == "OK")
        assert eventually(lambda: len(heard) > before)


def test_one_server_cannot_take_every_stream(served: Revocable) -> None:
    with served.stub(served.svid(SERVER)) as stub:
        calls = [stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=60) for _ in range(64)]
        for call in calls:
            next(call)
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=DEADLINE))
        assert reason_of(refused.value) == "TOO_MANY_WATCHES"
        for call in calls:
            call.cancel()


def test_new_audiences_end_the_stream_so_that_the_server_asks_again(served: Revocable) -> None:
    with following(served) as stream:
        stream.news()
        served.policy_file.write_text(SERVED.replace(f'"{SERVER}"', f'"{MAIL_SERVER}"'), encoding="utf-8")
        stream.hear_the_end()
