"""grpc_settlement.py calls grpc_ledger.py, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from support.examples import commands, run, serving
from support.https import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.development import Development

Environment = dict[str, str]


@pytest.fixture
def tls(tmp_path: Path) -> Environment:
    certificate, key = write_certificate(tmp_path, dns_names=("localhost",))
    return {"TLS_CERTIFICATE": str(certificate), "TLS_KEY": str(key)}


@pytest.fixture
def ledger(settler: Environment, tls: Environment, tmp_path: Path) -> Iterator[str]:
    with serving(commands()["grpc_ledger.py"], settler | tls | {"PORT": "0"}, tmp_path / "ledger.log") as address:
        yield address


def test_the_caller_gets_its_answer(
    ledger: str, settler: Environment, tls: Environment, development: Development
) -> None:
    done = run(commands()["grpc_settlement.py"], settler | tls | {"LEDGER": ledger})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"19.75 EUR, as asked for by {development.settler.spiffe_id}\n"


def test_who_may_not_have_a_token_gets_none(ledger: str, reader: Environment, tls: Environment) -> None:
    done = run(commands()["grpc_settlement.py"], reader | tls | {"LEDGER": ledger})
    assert (done.returncode, done.stdout) == (1, "")
    assert "AUDIENCE_NOT_ALLOWED" in done.stderr


def test_who_shows_no_token_is_turned_away(ledger: str, tls: Environment) -> None:
    credentials = grpc.ssl_channel_credentials(Path(tls["TLS_CERTIFICATE"]).read_bytes())
    with grpc.secure_channel(ledger, credentials) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/ledger.Ledger/Balance", Empty.SerializeToString)(Empty(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
