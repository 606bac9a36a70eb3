"""Tells a program of every request for approval and what came of it, so that it can ask people where they are.

One POST for each step, as the Standard Webhooks specification has it: ``webhook-id`` (the request and the number of
its last step: the same again is the same), ``webhook-timestamp`` and ``webhook-signature``, ``v1,`` and the base64 of
HMAC-SHA256 over id, timestamp and body, joined by dots. Nothing in it is a secret, and answering takes an SVID all the
same. It never holds up a decision; what cannot be delivered in time is logged, and ``issuer approvals list`` has it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Final

import httpx

from issuer.core.approval_evidence import evidence_nonce
from issuer.core.approval_state import Status, name_of
from issuer.core.instants import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.core.approval_book import ApprovalBook
    from issuer.core.approval_state import ApprovalRequest
    from issuer.ports import Clock

MIN_SECRET_BYTES: Final = 24
"""As the specification has it."""
TIMEOUT_SECONDS: Final = 5.0
WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try: half a minute in all, which a restart of the receiver takes."""


class WebhookNotConfigured(Exception):
    """The secret cannot be used. The message says why, and never what it is."""


def read_secret(path: Path) -> bytes:
    """Return the secret that a file holds.

    Raises:
        WebhookNotConfigured: It cannot be read, or is too short.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise WebhookNotConfigured(f"{path}: {error.strerror}") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise WebhookNotConfigured(f"{path}: the secret of the webhook has at least {MIN_SECRET_BYTES} characters")
    return secret


class ApprovalWebhook:
    """Delivers until it is cancelled.

    Args:
        url: Where to; redirects are not followed.
        secret: Signs each message.
        approvals: What is told.
        clock: When it is sent.
        log: Where it reports.
        waits: Seconds before each further try.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        approvals: ApprovalBook,
        clock: Clock,
        log: FilteringBoundLogger,
        waits: Iterable[float] = WAITS,
    ) -> None:
        self._url = url
        self._secret = secret
        self._approvals = approvals
        self._clock = clock
        self._log = log
        self._waits = tuple(waits)
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        """Tell what waits for an answer now, and then each step of each request."""
        changed = asyncio.Event()
        stop = self._approvals.watch(changed.set)
        now = microseconds(self._clock.now())
        self._told = {each.id: each.number for each in self._approvals if each.status_at(now) is not Status.PENDING}
        changed.set()
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client:
                while True:
                    await changed.wait()
                    changed.clear()
                    for request in self._news():
                        await self._deliver(client, request)
        finally:
            stop()

    def _news(self) -> list[ApprovalRequest]:
        known = sorted(self._approvals, key=lambda request: request.id)
        news = [each for each in known if self._told.get(each.id) != each.number]
        self._told = {each.id: each.number for each in known}  # what was forgotten is forgotten here as well
        return news

    async def _deliver(self, client: httpx.AsyncClient, request: ApprovalRequest) -> None:
        fault = ""
        for wait in (0.0, *self._waits):
            await asyncio.sleep(wait)
            now = self._clock.now()
            body = message(request, now)
            try:
                answer = await client.post(self._url, content=body, headers=headers(self._secret, request, body, now))
            except httpx.HTTPError as error:
                fault = type(error).__name__
                continue
            if answer.is_success:
                return
            fault = f"status {answer.status_code}"
        self._log.error("approval_webhook_failed", approval=name_of(request), number=request.number, error=fault)


def headers(secret: bytes, request: ApprovalRequest, body: bytes, now: datetime) -> dict[str, str]:
    """Return what identifies and signs a message."""
    name, time = f"{request.id}-{request.number}", str(int(now.timestamp()))
    signature = hmac.digest(secret, f"{name}.{time}.".encode() + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": time,
        "webhook-signature": f"v1,{b64encode(signature).decode()}",
    }


def message(request: ApprovalRequest, now: datetime) -> bytes:
    """Return what is told of a request."""
    question = request.question
    asked = question.asked
    data = {
        "name": name_of(request),
        "state": request.status_at(microseconds(now)).value,
        "digest": asked.digest,
        "caller": asked.caller,
        "application": asked.application,
        "audience": asked.audience,
        "scopes": asked.scopes,
        "needs": [
            {"scope": each.scope, "risk": each.risk, "quorum": each.quorum, "human": each.human}
            for each in question.needs
        ],
        "evidence_nonce": evidence_nonce(question),
        "intent": json.loads(asked.intent or "{}"),
        "reason": question.why,
        "lifetime_seconds": question.lifetime,
        "expire_time": moment(request.until).isoformat(),
        "given": [{"approver": each.by, "scopes": each.scopes, "reason": each.why} for each in request.given],
        "ended_by": request.ended_by,
        "ended_reason": request.ended_why,
    }
    return json.dumps({"type": "approval_request.changed", "timestamp": now.isoformat(), "data": data}).encode()
