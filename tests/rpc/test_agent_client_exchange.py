"""Both clients and ``spiffe-token`` on behalf of another, and the verifier of the API that they call."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.exchanging import FRONT, ORDERS, ORDERS_API, STOCK_API, STRANGER, Shop
from support.spiffe_token import SpiffeToken

from agent_client import (
    AccessDenied,
    IssuerClient,
    ScopeNotAllowed,
    SubjectToken,
    SubjectTokenNotTaken,
    SubjectTokenType,
    SyncIssuerClient,
)
from agent_client.verification import Actor, TokenVerifier
from issuer_testing.issuer_process import ISSUER_DNS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_testing.spire.embedded import EmbeddedWorkload

READ = ["items.read"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(tmp_path_factory.mktemp("shop")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def front(shop: Shop) -> Iterator[SyncIssuerClient]:
    with shop.issuer.client(shop.authority.workload(FRONT)) as client:
        yield client


@pytest.fixture(scope="module")
def server(shop: Shop) -> EmbeddedWorkload:
    return shop.authority.workload(ORDERS)


@pytest.fixture(scope="module")
def orders(shop: Shop, server: EmbeddedWorkload) -> Iterator[SyncIssuerClient]:
    with shop.issuer.client(server) as client:
        yield client


@pytest.fixture
def subject(front: SyncIssuerClient) -> SubjectToken:
    return SubjectToken(front.issue_token(ORDERS_API, READ).token)


def test_an_api_calls_the_next_on_behalf_of_its_caller_and_that_verifies_who_acts(
    shop: Shop, orders: SyncIssuerClient, subject: SubjectToken
) -> None:
    issued = orders.exchange_token(subject, STOCK_API, READ, ttl=timedelta(seconds=60))
    assert (issued.subject, issued.scopes) == (FRONT, ("items.read",))
    verifier = TokenVerifier(shop.issuer.url, STOCK_API, insecure_dev=True)
    verified = verifier.verify(issued.token.reveal(), scopes=READ)
    assert (verified.subject, verified.client_id) == (FRONT, ORDERS)
    assert verified.actors == (Actor(ORDERS, "spiffe://dev.test"),)


def test_only_asking_brings_no_token(orders: SyncIssuerClient, subject: SubjectToken) -> None:
    issued = orders.exchange_token(subject, STOCK_API, READ, validate_only=True)
    assert not issued.token
    assert issued.subject == FRONT


async def test_so_does_an_asyncio_client(shop: Shop, server: EmbeddedWorkload, subject: SubjectToken) -> None:
    options = {"workload_api": server.socket, "issuer_dns_name": ISSUER_DNS_NAME}
    async with IssuerClient(shop.issuer.address, **options) as client:  # type: ignore[arg-type] # texts
        issued = await client.exchange_token(subject, STOCK_API, READ)
        assert issued.subject == FRONT
        source = client.tokens_for(STOCK_API, READ, on_behalf_of=subject)
        assert (await source.get()).subject == FRONT


def test_a_holder_narrows_its_own_token(front: SyncIssuerClient, subject: SubjectToken) -> None:
    assert front.exchange_token(subject, STOCK_API, READ).subject == FRONT


def test_refusals_say_why(shop: Shop, orders: SyncIssuerClient, subject: SubjectToken) -> None:
    with pytest.raises(ScopeNotAllowed):
        orders.exchange_token(subject, STOCK_API, ["items.write"])
    with pytest.raises(SubjectTokenNotTaken):
        orders.exchange_token(SubjectToken("a.b.c", SubjectTokenType.JWT_SVID), STOCK_API, READ)
    with shop.issuer.client(shop.authority.workload(STRANGER)) as stranger, pytest.raises(AccessDenied) as refused:
        stranger.exchange_token(subject, STOCK_API, READ)
    assert refused.value.reason == "SUBJECT_TOKEN_NOT_YOURS"
    assert subject.reveal() not in repr(refused.value) + str(refused.value)


def test_kept_tokens_are_shared_by_subject_token_and_end_with_it(
    orders: SyncIssuerClient, front: SyncIssuerClient, subject: SubjectToken
) -> None:
    source = orders.tokens_for(STOCK_API, READ, on_behalf_of=subject)
    same = orders.tokens_for(STOCK_API, READ, on_behalf_of=SubjectToken(subject.reveal()))
    other = orders.tokens_for(STOCK_API, READ, on_behalf_of=SubjectToken(front.issue_token(ORDERS_API, READ).token))
    assert same.get() is source.get()
    assert other.get() is not source.get()
    assert not source._entry.renewable, "it ends with the subject token: nothing longer can be had"
    assert source._entry.due_at is None


def test_spiffe_token_gets_one_by_a_file_or_standard_input(
    shop: Shop, server: EmbeddedWorkload, subject: SubjectToken, tmp_path: Path
) -> None:
    file = tmp_path / "caller-token"
    file.write_text(subject.reveal(), encoding="utf-8")
    command = SpiffeToken(shop, server)
    asked = ("get", "--audience", STOCK_API, "--scope", "items.read", "--subject-token-file")
    for ended in (command.run(*asked, str(file)), command.run(*asked, "-", given=subject.reveal())):
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.count(".") == 2
    wrong = command.run(*asked, str(file), "--subject-token-type", "id-token")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "SUBJECT_TOKEN_NOT_TAKEN" in wrong.stderr
    assert subject.reveal() not in wrong.stderr
    missing = command.run(*asked, str(tmp_path / "missing"))
    assert (missing.returncode, missing.stdout) == (2, "")
    both = command.run(*asked, str(file), "--request-approval")
    assert both.returncode == 2
