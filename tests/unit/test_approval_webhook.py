"""What a receiver of webhooks gets: each step once it is made, signed, tried again, and never more than that."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs
from support.approvals import ALICE, begun, given, question
from support.eventually import eventually_true

from issuer.approval_webhook import ApprovalWebhook, WebhookNotConfigured, read_secret
from issuer.core.approval_book import ApprovalBook
from issuer.core.ledger_claims import ClaimRow, claims_of
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from issuer.core.ledger_entries import Entry

SECRET = b"s" * 32


class Receiver:
    """An HTTP server that keeps what it gets and answers with the next of its codes, at last with 204."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.split(": ", 1) for line in head.splitlines()[1:] if line]
        fields = {name.lower(): value for name, value in lines}
        self.got.append((fields, await reader.readexactly(int(fields["content-length"]))))
        code = self.codes.pop(0) if self.codes else "204 No Content"
        answer = f"HTTP/1.1 {code}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    def states(self) -> list[str]:
        return [json.loads(body)["data"]["state"] for _, body in self.got]


def learn(book: ApprovalBook, *entries: Entry) -> None:
    rows = [ClaimRow(number, *claim) for number, claim in enumerate(claims_of(entries), 1)]
    book.learn(rows, SystemClock().now())


@asynccontextmanager
async def delivering(book: ApprovalBook, receiver: Receiver) -> AsyncIterator[None]:
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    webhook = ApprovalWebhook(
        url, SECRET, approvals=book, clock=SystemClock(), log=structlog.get_logger(), waits=(0.01, 0.01)
    )
    task = asyncio.create_task(webhook.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    await server.wait_closed()


async def test_each_step_is_told_and_signed() -> None:
    book, receiver, asked = ApprovalBook(), Receiver(), question(why="now")
    async with delivering(book, receiver):
        learn(book, begun(asked))
        await eventually_true(lambda: receiver.states() == ["pending"])
        learn(book, given(asked))
        await eventually_true(lambda: receiver.states() == ["pending", "approved"])
    (first, body), (second, told) = receiver.got
    assert (first["webhook-id"], second["webhook-id"]) == (f"{asked.id}-1", f"{asked.id}-2")
    signed = f"{first['webhook-id']}.{first['webhook-timestamp']}.".encode() + body
    assert first["webhook-signature"] == "v1," + b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    data = json.loads(told)["data"]
    assert (data["reason"], data["digest"], data["given"][0]["approver"]) == ("now", asked.asked.digest, ALICE)
    assert SECRET not in body


@pytest.mark.parametrize("code", ["500 Oops", "302 Found", "429 Slow"])
async def test_what_was_not_taken_is_tried_again(code: str) -> None:
    book, receiver = ApprovalBook(), Receiver(code, code)
    async with delivering(book, receiver):
        learn(book, begun(question()))
        await eventually_true(lambda: len(receiver.got) == 3)
    assert len({fields["webhook-id"] for fields, _ in receiver.got}) == 1


async def test_what_cannot_be_delivered_is_logged_and_the_next_is_told() -> None:
    book, receiver, asked = ApprovalBook(), Receiver(*["500 Oops"] * 3), question()
    with capture_logs() as logged:
        async with delivering(book, receiver):
            learn(book, begun(asked))
            await eventually_true(lambda: bool(logged))
            learn(book, given(asked))
            await eventually_true(lambda: receiver.states()[-1] == "approved")
    assert [(line["event"], line["error"]) for line in logged] == [("approval_webhook_failed", "status 500")]


async def test_after_a_start_only_what_waits_is_told() -> None:
    book, receiver, waiting, decided = ApprovalBook(), Receiver(), question(), question(follows="x")
    learn(book, begun(waiting), begun(decided), given(decided))
    async with delivering(book, receiver):
        await eventually_true(lambda: bool(receiver.got))
    assert [json.loads(body)["data"]["name"] for _, body in receiver.got] == [f"approvalRequests/{waiting.id}"]


def test_a_secret_is_read_and_never_told(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(WebhookNotConfigured, match="No such file"):
        read_secret(file)
    file.write_text("short-one\n", encoding="utf-8")
    with pytest.raises(WebhookNotConfigured, match="at least 24") as refused:
        read_secret(file)
    assert "short-one" not in str(refused.value)
    file.write_bytes(SECRET + b"\n")
    assert read_secret(file) == SECRET
