"""Introspection and revocation by holders on a real server: who learns what, and who does not."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import pytest
from support.deployment import DEADLINE, LEDGER, POLICY, READER, SETTLER, reason_of
from support.eventually import eventually
from support.ledgers import rows
from support.revocations import READS, Revocable

from issuer.ledger.reading import LedgerReader
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER, MAIL_SERVER = "spiffe://dev.test/ns/ledger/sa/api", "spiffe://dev.test/ns/mail/sa/api"
MAIL = f"""\
  - name: https://mail.dev.test
    application: mail
    servers: ["{MAIL_SERVER}"]
    scopes: [{{name: mail.send, risk: low}}]
grants:
"""
OWNED = "    application: ledger\n"
SERVED = POLICY.replace(OWNED, f'{OWNED}    servers: ["{SERVER}"]\n', 1).replace("grants:\n", MAIL) + READS


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Revocable]:
    with Revocable(tmp_path, SERVED) as deployment:
        yield deployment


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "issuer" / "ledger" / "ledger.sqlite3"


def introspect(deployment: Revocable, token: str, caller: str = SERVER) -> pb.IntrospectTokenResponse:
    with deployment.stub(deployment.svid(caller)) as stub:
        answer: pb.IntrospectTokenResponse = stub.IntrospectToken(
            pb.IntrospectTokenRequest(token=token), timeout=DEADLINE
        )
        return answer


def revoke_own(deployment: Revocable, caller: str = SETTLER, **which: str) -> pb.RevokeTokenResponse:
    with deployment.stub(deployment.svid(caller)) as stub:
        answer: pb.RevokeTokenResponse = stub.RevokeToken(pb.RevokeTokenRequest(**which), timeout=DEADLINE)
        return answer


INACTIVE = pb.IntrospectTokenResponse()


def test_a_server_learns_what_a_good_token_says(served: Revocable) -> None:
    issued = served.issued()
    told = introspect(served, issued.token)
    assert (told.active, list(told.scopes), told.subject, told.client_id) == (True, ["ledger.read"], SETTLER, SETTLER)
    assert (told.audience, told.token_id, told.application) == (LEDGER, issued.token_id, "payments")
    assert (told.expire_time, told.token_type) == (issued.expire_time, "Bearer")
    assert told.issuer.startswith("http")


def test_nobody_else_learns_anything(served: Revocable) -> None:
    issued = served.issued()
    for caller in (SETTLER, READER, MAIL_SERVER, "spiffe://dev.test/ns/ledger/sa/api/x"):
        assert introspect(served, issued.token, caller) == INACTIVE


def test_what_is_not_ours_is_inactive_and_no_error(served: Revocable) -> None:
    issued = served.issued()
    head, payload, signature = issued.token.split(".")
    for text in ("x", "a.b.c", f"{head}.{payload}.", f"{head}.{payload}.{signature[::-1]}", issued.token + "x"):
        assert introspect(served, text) == INACTIVE
    for text in ("", "x" * 20_000):
        with pytest.raises(grpc.RpcError) as refused:
            introspect(served, text)
        assert reason_of(refused.value) == "REQUEST_INVALID"


@pytest.mark.parametrize(
    "selector",
    [
        {"workload": "spiffe://dev.test/ns/*/sa/settler"},
        {"application": "payments"},
        {"audience": LEDGER},
        {"rule": "settlement"},
        {"everything": True},
    ],
)
def test_a_revoked_token_is_inactive_and_stays_so_after_the_lift(
    served: Revocable, selector: dict[str, str | bool]
) -> None:
    issued = served.issued()
    made = served.revoke(**selector).revocation  # type: ignore[arg-type] # one field
    assert introspect(served, issued.token) == INACTIVE
    if made.stops_issuance:
        served.lift(made.revocation_id)
    later = served.issued()
    assert introspect(served, issued.token) == INACTIVE
    assert introspect(served, later.token).active
    served.issuer.signal(signal.SIGKILL)
    served.issuer.wait()
    served.issuer.start()
    assert introspect(served, issued.token) == INACTIVE
    assert introspect(served, later.token).active


def test_all_that_a_revoked_key_signed_is_inactive(served: Revocable) -> None:
    issued = served.issued()
    with served.stub() as stub:
        jwks = stub.GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE).jwks
    served.revoke(key_id=jwks.partition('"kid":"')[2].partition('"')[0])
    assert introspect(served, issued.token) == INACTIVE


def test_a_holder_revokes_its_own_token_by_text_or_id_once(served: Revocable, ledger: Path) -> None:
    one, two, three = (served.issued() for _ in range(3))
    revoke_own(served, token=one.token)
    revoke_own(served, token_id=two.token_id)
    revoke_own(served, token_id=two.token_id)
    assert [introspect(served, each.token).active for each in (one, two, three)] == [False, False, True]
    assert served.outcome() == "OK", "issuance goes on"
    [_, _] = rows(ledger, "SELECT id FROM revocation")


def test_another_holders_token_cannot_be_revoked_nor_told_from_an_unknown_one(served: Revocable, ledger: Path) -> None:
    issued = served.issued()
    answers = [
        revoke_own(served, READER, token=issued.token),
        revoke_own(served, READER, token_id=issued.token_id),
        revoke_own(served, READER, token_id="unknown"),
        revoke_own(served, READER, token="x.y.z"),
    ]
    assert answers == [pb.RevokeTokenResponse()] * 4
    assert introspect(served, issued.token).active
    assert rows(ledger, "SELECT id FROM revocation") == []


def test_naming_no_token_is_refused(served: Revocable) -> None:
    for which in ({}, {"token": ""}, {"token_id": ""}, {"token_id": "x" * 200}):
        with pytest.raises(grpc.RpcError) as refused:
            revoke_own(served, **which)
        assert reason_of(refused.value) == "REQUEST_INVALID"


def test_an_operators_revocation_of_one_token_leaves_the_others(served: Revocable) -> None:
    one, two = served.issued(), served.issued()
    served.revoke(token_id=one.token_id)
    assert [introspect(served, each.token).active for each in (one, two)] == [False, True]


def test_a_token_whose_decision_is_not_in_the_ledger_is_inactive(served: Revocable, ledger: Path) -> None:
    """Somebody has the key: what they sign is not in the record."""
    issued = served.issued()
    [found] = LedgerReader.sqlite(ledger).find(issued.token_id)
    assert introspect(served, issued.token).active
    served.issuer.stop()
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE decision SET token_id = NULL WHERE seq = ?", (found.seq,))
        connection.commit()
    served.issuer.start()
    assert introspect(served, issued.token) == INACTIVE


def test_while_the_ledger_is_away_nobody_is_told_that_a_token_is_good(served: Revocable, ledger: Path) -> None:
    issued = served.issued()
    away = ledger.rename(ledger.with_name("away"))
    assert eventually(lambda: served.outcome() == "LEDGER_UNAVAILABLE")
    with pytest.raises(grpc.RpcError) as refused:
        introspect(served, issued.token)
    assert reason_of(refused.value) == "LEDGER_UNAVAILABLE"
    away.rename(ledger)
    assert eventually(lambda: served.outcome() == "OK")
    assert introspect(served, issued.token).active


def test_neither_text_nor_claims_of_a_token_reach_the_log(served: Revocable) -> None:
    issued = served.issued()
    introspect(served, issued.token)
    revoke_own(served, token=issued.token)
    written = str(served.issuer.log())
    assert issued.token not in written
    assert issued.token.split(".")[2] not in written
