"""gRPC's wire format, without a server."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.rpc.asgi_messages import ClientGone, MessageReader
from issuer.rpc.asgi_wire import (
    GrpcFault,
    frame,
    metadata_bytes,
    metadata_from_headers,
    percent_encoded,
    status_headers,
    timeout_seconds,
)

LIMIT = 1000


@given(st.text())
def test_a_status_message_decodes_to_itself_and_is_printable_ascii(text: str) -> None:
    encoded = percent_encoded(text)
    assert unquote_to_bytes(encoded) == text.encode("utf-8", "replace")
    assert all(0x20 <= byte < 0x7F for byte in encoded)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 4e-3), (b"5u", 5e-6), (b"6n", 6e-9), (b"99999999S", 99_999_999)],
)
def test_reads_a_timeout(value: bytes, seconds: float) -> None:
    assert timeout_seconds(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [b"", b"1", b"S", b"-1S", b"+1S", b"1.5S", b"123456789S", b"1s", b"1S ", b" 1S", b"1S\n"]
)
def test_refuses_what_is_no_timeout(value: bytes) -> None:
    with pytest.raises(GrpcFault) as refused:
        timeout_seconds(value)
    assert refused.value.code is grpc.StatusCode.INTERNAL


def test_metadata_that_cannot_be_read_is_left_out() -> None:
    headers = [(b"te", b"trailers"), (b"x-a", b"b"), (b"x-bin", b"AP8"), (b"y-bin", b"?"), (b"x-c", b"\xff")]
    assert metadata_from_headers(headers) == (("x-a", "b"), ("x-bin", b"\0\xff"))


def test_binary_metadata_is_sent_without_padding() -> None:
    assert status_headers(grpc.StatusCode.OK, "", [("x-bin", b"\0\xff"), ("x", "y")]) == [
        (b"grpc-status", b"0"),
        (b"x-bin", b"AP8"),
        (b"x", b"y"),
    ]


def test_a_field_of_metadata_counts_32_bytes_more_than_it_has() -> None:
    assert metadata_bytes([(b"name", b"value"), (b"", b"")]) == 73


def reader(*pieces: bytes, ends: bool = True) -> MessageReader:
    """Return a reader of a request in these pieces, which is whole, or after which the client goes away."""
    events: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    events.append({"type": "http.request"} if ends else {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    return MessageReader(receive, LIMIT)


async def all_of(messages: MessageReader) -> list[bytes]:
    found = []
    while (message := await messages.next()) is not None:
        found.append(message)
    return found


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(0, 200), max_size=10))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(map(frame, messages))
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[begin:end] for begin, end in pairwise(edges)]
    assert asyncio.run(all_of(reader(*pieces))) == messages


@given(st.binary(max_size=60))
def test_whatever_is_sent_ends_in_messages_or_a_status(content: bytes) -> None:
    try:
        found = asyncio.run(all_of(reader(content)))
    except GrpcFault:
        return
    assert b"".join(map(frame, found)) == content


async def test_a_message_at_the_limit_is_read_and_one_over_it_is_refused_by_its_prefix() -> None:
    assert await reader(frame(bytes(LIMIT))).only() == bytes(LIMIT)
    with pytest.raises(GrpcFault) as refused:
        await reader(frame(bytes(LIMIT + 1))[:5], ends=False).only()
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_goes_away_is_not_taken_for_the_end_of_its_request() -> None:
    with pytest.raises(ClientGone):
        await reader(frame(b"whole"), ends=False).only()


@pytest.mark.parametrize("pieces", [(), (frame(b"a"), frame(b"b")), (frame(b"a") + frame(b"b"),)])
async def test_a_unary_call_has_one_message(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(GrpcFault) as refused:
        await reader(*pieces).only()
    assert refused.value.code is grpc.StatusCode.UNIMPLEMENTED
