"""Two issuers on one PostgreSQL database: an intent is redeemed once, wherever it is redeemed."""

from __future__ import annotations

import copy
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.deployment import reason_of
from support.eventually import eventually
from support.intending import SCHEDULER, WORKER, Intending
from support.postgres import PostgresServer

from issuer_api.v1 import intent_service_pb2 as pb
from issuer_testing.issuer_process import IssuerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Intending, Intending]]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        folder: Path = tmp_path_factory.mktemp("issuers")
        place: dict[str, object] = {"file": None, "postgresql": server.new_database()}
        with Intending(folder, ledger=place, issuer={"url": "http://127.0.0.1:9"}) as one:  # one `iss`
            other = copy.copy(one)
            other.settings = replace(one.settings, folder=folder / "other")
            shutil.copytree(one.settings.folder / "keys", other.settings.folder / "keys")
            other.issuer = IssuerProcess(other.settings)
            with other.issuer:
                yield one, other


def is_known(deployment: Intending, name: str) -> bool:
    return name in deployment.listed(WORKER)


def test_of_many_who_redeem_it_at_both_at_once_one_does(two: tuple[Intending, Intending]) -> None:
    name = two[0].register().name
    assert eventually(lambda: is_known(two[1], name), within=10)
    request = pb.RedeemIntentRequest(name=name)
    with ExitStack() as stack:
        stubs = [stack.enter_context(each.intents()) for each in two]
        calls = [stub.RedeemIntent.future(request, timeout=60) for _ in range(200) for stub in stubs]
        refused = [reason_of(call.exception()) for call in calls if call.exception() is not None]
    assert len(calls) - len(refused) == 1
    assert set(refused) <= {"INTENT_NOT_OPEN", "RATE_LIMITED"}
    assert [each.outcome(name) for each in two] == ["INTENT_NOT_OPEN"] * 2
    assert sum(bool(each.token_id) for each in two[0].decisions(WORKER)) == 1


def test_what_one_takes_back_or_redeems_the_other_does_not_redeem(two: tuple[Intending, Intending]) -> None:
    one, other = two
    cancelled, redeemed = (one.register().name for _ in range(2))
    assert eventually(lambda: is_known(other, cancelled) and is_known(other, redeemed), within=10)
    one.cancel(cancelled)
    assert other.outcome(cancelled) == "INTENT_NOT_OPEN", "at once: what it knows is old, and its claim is taken"
    assert one.outcome(redeemed) == "OK"
    assert other.outcome(redeemed) == "INTENT_NOT_OPEN"


def test_what_is_revoked_at_one_is_not_redeemed_at_the_other(two: tuple[Intending, Intending]) -> None:
    one, other = two
    name = one.register().name
    assert eventually(lambda: is_known(other, name), within=10)
    one.revoke(basis=f"intent/{name.removeprefix('intents/')}")
    assert other.outcome(name) == "REVOKED"


def test_the_same_request_at_both_is_one_intent_and_survives_kill_9(two: tuple[Intending, Intending]) -> None:
    one, other = two
    with ExitStack() as stack:
        stubs = [stack.enter_context(each.intents(SCHEDULER)) for each in two]
        request = pb.RegisterIntentRequest(
            audience="https://ledger.dev.test",
            scopes=["ledger.read"],
            operation="report",
            consumer=WORKER,
            request_id="job-9",
        )
        calls = [stub.RegisterIntent.future(request, timeout=60) for _ in range(8) for stub in stubs]
        names = {call.result().intent.name for call in calls}
    assert len(names) == 1
    other.issuer.signal(signal.SIGKILL)
    other.issuer.wait()
    other.issuer.start()
    assert other.outcome(next(iter(names))) == "OK"
    assert one.outcome(next(iter(names))) == "INTENT_NOT_OPEN"
