"""What dies with what: a token on behalf of another lives no longer than anything it rests on."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc
import pytest
from support.deployment import DEADLINE
from support.eventually import eventually
from support.exchanging import FRONT, ORDERS, ORDERS_API, PARTS_API, STOCK, STOCK_API, Shop

from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as deployment:
        yield deployment


def chain(shop: Shop) -> tuple[pb.IssueTokenResponse, pb.IssueTokenResponse, pb.IssueTokenResponse]:
    """Return a token of FRONT, and those that ORDERS and then STOCK got for it."""
    first = shop.front_token()
    second = shop.exchange(first.token).issued
    return first, second, shop.exchange(second.token, STOCK, PARTS_API).issued


def active(shop: Shop, *tokens: pb.IssueTokenResponse) -> list[bool]:
    return [shop.is_active(token.token, server) for token, server in zip(tokens, (ORDERS, STOCK, STOCK), strict=False)]


@pytest.mark.parametrize(
    "selector",
    [
        {"workload": FRONT},
        {"audience": ORDERS_API},
        {"rule": "front"},
        {"everything": True},
    ],
)
def test_what_kills_the_first_token_kills_all_that_rest_on_it(shop: Shop, selector: dict[str, Any]) -> None:
    tokens = chain(shop)
    assert active(shop, *tokens) == [True, True, True]
    made = shop.revoke(**selector).revocation
    assert active(shop, *tokens) == [False, False, False]
    if made.stops_issuance:
        shop.lift(made.revocation_id)
    assert active(shop, *tokens) == [False, False, False], "what was killed stays dead"
    assert shop.refusal(tokens[0].token) == "SUBJECT_TOKEN_NOT_TAKEN"
    assert shop.refusal(tokens[1].token, STOCK, PARTS_API) == "SUBJECT_TOKEN_NOT_TAKEN"
    shop.issuer.signal(signal.SIGKILL)
    shop.issuer.wait()
    shop.issuer.start()
    assert active(shop, *tokens) == [False, False, False]


def test_what_kills_an_actor_in_the_middle_spares_what_is_above_it(shop: Shop) -> None:
    tokens = chain(shop)
    shop.revoke(rule="orders")
    assert active(shop, *tokens) == [True, False, False]


def test_a_single_token_takes_along_what_rests_on_it_and_nothing_else(shop: Shop) -> None:
    tokens, others = chain(shop), chain(shop)
    shop.revoke(token_id=tokens[1].token_id)
    assert active(shop, *tokens) == [True, False, False]
    assert active(shop, *others) == [True, True, True]
    assert shop.refusal(tokens[1].token, STOCK, PARTS_API) == "SUBJECT_TOKEN_NOT_TAKEN"
    assert shop.refusal(tokens[0].token) == ""


def test_a_holder_that_revokes_its_token_ends_what_others_do_with_it(shop: Shop) -> None:
    tokens = chain(shop)
    with shop.stub(shop.svid(FRONT)) as stub:
        stub.RevokeToken(pb.RevokeTokenRequest(token=tokens[0].token), timeout=DEADLINE)
    assert active(shop, *tokens) == [False, False, False]


def test_replayed_after_the_ancestor_was_revoked_it_is_not_taken(shop: Shop) -> None:
    first, second, _ = chain(shop)
    shop.revoke(token_id=first.token_id)
    for _ in range(2):
        assert shop.refusal(second.token, STOCK, PARTS_API) == "SUBJECT_TOKEN_NOT_TAKEN"


class Heard:
    """What the servers of STOCK_API and PARTS_API hear of the dead, without a look at the record."""

    def __init__(self, shop: Shop) -> None:
        self._context = shop.stub(shop.svid(STOCK))
        self._call: Any = None

    def __enter__(self) -> Self:
        self._call = self._context.__enter__().WatchRevocations(pb.WatchRevocationsRequest(), timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()
        self._context.__exit__(None, None, None)

    def until(self, *token_ids: str) -> None:
        """Return once these were told dead; a stream that does not tell them ends by its deadline."""
        missing = set(token_ids)
        for message in self._call:
            for dead in message.dead:
                missing -= set(dead.token_ids)
            if not missing:
                return
        raise AssertionError("the stream ended")


@pytest.mark.parametrize("by", ["token", "workload", "actor", "audience", "rule"])
def test_servers_are_told_of_what_rests_on_what_was_revoked(shop: Shop, by: str) -> None:
    first, second, third = chain(shop)
    selector: dict[str, Any] = {
        "token": {"token_id": first.token_id},
        "workload": {"workload": FRONT},
        "actor": {"workload": ORDERS},
        "audience": {"audience": ORDERS_API},
        "rule": {"rule": "front"},
    }[by]
    with Heard(shop) as heard:
        shop.revoke(**selector)
        heard.until(second.token_id, third.token_id)
    with Heard(shop) as heard:
        heard.until(second.token_id, third.token_id)


def test_no_token_that_was_released_outlives_the_revocation_of_what_it_rests_on(shop: Shop) -> None:
    """Exchange races revocation: once Revoke has returned, nothing of the chain is alive, and every server is told."""
    with Heard(shop) as heard, ThreadPoolExecutor(4) as threads:
        for _ in range(8):
            front = shop.front_token()

            def exchange_while_it_lasts(token: str = front.token) -> list[pb.IssueTokenResponse]:
                got: list[pb.IssueTokenResponse] = []
                request = pb.ExchangeTokenRequest(
                    subject_token=token,
                    subject_token_type=pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN,
                    request=pb.IssueTokenRequest(audience=STOCK_API, scopes=["items.read"]),
                )
                with shop.stub(shop.svid(ORDERS)) as stub:
                    try:
                        while len(got) < 1_000:
                            got.append(stub.ExchangeToken(request, timeout=DEADLINE).issued)
                    except grpc.RpcError:
                        return got
                raise AssertionError("it was never refused")

            racing = [threads.submit(exchange_while_it_lasts) for _ in range(3)]
            assert eventually(lambda: shop.refusal(front.token) == "")  # noqa: B023 - used at once
            shop.revoke(token_id=front.token_id)
            released = [token for each in racing for token in each.result(60)]
            assert released
            assert not any(shop.is_active(token.token) for token in released[-3:] + released[:3])
            heard.until(*(token.token_id for token in released))
