"""The methods of both clients that are about intents; each client brings its own way to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from agent_client import intents
from agent_client.errors import AnswerRejected, InvalidTokenRequest
from agent_client.intents import IntentRequest, Redemption
from agent_client.requests import TokenRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from agent_client.answers import IssuedToken
    from agent_client.exchanges import Exchange
    from agent_client.intents import RegisteredIntent

Answer = TypeVar("Answer")

MAX_PAGES: Final = 500
"""More than 100,000 intents concern no workload: an issuer that tells of more does not end."""
_ENDLESS = "the issuer lists intents without end"


class IntentCalls:
    """What :class:`~agent_client.aio.IssuerClient` does about intents."""

    async def _call(self, exchange: Exchange[Answer], timeout: float | None) -> Answer:  # noqa: ASYNC109 - as the client
        raise NotImplementedError

    async def register_intent(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        operation: str,
        consumer: str,
        resource: str | None = None,
        parameters: bytes | None = None,
        parameters_digest: str | None = None,
        transaction: str | None = None,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
        uses: int = 1,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the retries too
    ) -> RegisteredIntent:
        """Let another workload do something later, on this one's behalf: hand it the name of what this returns.

        Policy must let this workload have the token itself, by a grant of the type ``intent``, and decides again when
        the consumer redeems it. The arguments are those of :class:`~agent_client.intents.IntentRequest`.
        """
        token = TokenRequest(audience, scopes, ttl, application, bind_certificate)
        request = IntentRequest(
            token, operation, consumer, resource, parameters, parameters_digest, transaction, not_before, expires_at,
            uses, request_id,
        )  # fmt: skip
        return await self._call(intents.register_intent(request), timeout)

    async def redeem_intent(
        self,
        name: str,
        *,
        parameters: bytes | None = None,
        parameters_digest: str | None = None,
        scopes: Sequence[str] = (),
        ttl: timedelta | None = None,
        bind_certificate: bool = False,
        allow_partial: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> IssuedToken:
        """Redeem an intent that names this workload as its consumer, for a token of that operation alone.

        It is for one use, and neither kept nor renewed. Where the answer is lost the use is taken all the same: then
        :class:`~agent_client.errors.IntentNotOpen` follows, and who registered it has to do so again.

        Args:
            name: As its registrar handed it over.
            parameters: Those that this workload was handed: where they are not the intent's, nothing is issued.
            parameters_digest: Their digest, instead.
            scopes: Only these of the intent's; none for all.
            ttl: The lifetime asked for; ``None`` asks for the longest that there is.
            bind_certificate: Ask for a token that only works together with this workload's certificate (RFC 8705).
            allow_partial: Take the scopes that are granted, rather than all or nothing.
            timeout: Seconds for the call.
        """
        digest = _digest(parameters, parameters_digest)
        redemption = Redemption(name, digest, tuple(scopes), ttl, bind_certificate, allow_partial)
        return await self._call(intents.redeem_intent(redemption), timeout)

    async def get_intent(self, name: str, *, timeout: float | None = None) -> RegisteredIntent:  # noqa: ASYNC109 - as above
        """Return an intent that this workload registered or may redeem."""
        return await self._call(intents.get_intent(name), timeout)

    async def list_intents(self, *, timeout: float | None = None) -> list[RegisteredIntent]:  # noqa: ASYNC109 - as above
        """Return the intents that this workload registered or may redeem, the newest first.

        ``timeout`` is that of each page of 200.
        """
        found, page_token = await self._call(intents.list_intents(""), timeout)
        for _ in range(MAX_PAGES):
            if not page_token:
                return found
            page, page_token = await self._call(intents.list_intents(page_token), timeout)
            found += page
        raise AnswerRejected(_ENDLESS)

    async def cancel_intent(self, name: str, *, reason: str = "", timeout: float | None = None) -> RegisteredIntent:  # noqa: ASYNC109 - as above
        """Take back an intent that this workload registered. Tokens that came of it live on."""
        return await self._call(intents.cancel_intent(name, reason), timeout)


class SyncIntentCalls:
    """What :class:`~agent_client.sync.SyncIssuerClient` does about intents; see :class:`IntentCalls`."""

    def _call(self, exchange: Exchange[Answer], timeout: float | None) -> Answer:
        raise NotImplementedError

    def register_intent(
        self,
        audience: str,
        scopes: Sequence[str],
        *,
        operation: str,
        consumer: str,
        resource: str | None = None,
        parameters: bytes | None = None,
        parameters_digest: str | None = None,
        transaction: str | None = None,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
        uses: int = 1,
        ttl: timedelta | None = None,
        application: str | None = None,
        bind_certificate: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> RegisteredIntent:
        """Let another workload do something later, on this one's behalf; see :meth:`IntentCalls.register_intent`."""
        token = TokenRequest(audience, scopes, ttl, application, bind_certificate)
        request = IntentRequest(
            token, operation, consumer, resource, parameters, parameters_digest, transaction, not_before, expires_at,
            uses, request_id,
        )  # fmt: skip
        return self._call(intents.register_intent(request), timeout)

    def redeem_intent(
        self,
        name: str,
        *,
        parameters: bytes | None = None,
        parameters_digest: str | None = None,
        scopes: Sequence[str] = (),
        ttl: timedelta | None = None,
        bind_certificate: bool = False,
        allow_partial: bool = False,
        timeout: float | None = None,
    ) -> IssuedToken:
        """Redeem an intent that names this workload as its consumer; see :meth:`IntentCalls.redeem_intent`."""
        digest = _digest(parameters, parameters_digest)
        redemption = Redemption(name, digest, tuple(scopes), ttl, bind_certificate, allow_partial)
        return self._call(intents.redeem_intent(redemption), timeout)

    def get_intent(self, name: str, *, timeout: float | None = None) -> RegisteredIntent:
        """Return an intent that this workload registered or may redeem."""
        return self._call(intents.get_intent(name), timeout)

    def list_intents(self, *, timeout: float | None = None) -> list[RegisteredIntent]:
        """Return the intents that this workload registered or may redeem; see :meth:`IntentCalls.list_intents`."""
        found, page_token = self._call(intents.list_intents(""), timeout)
        for _ in range(MAX_PAGES):
            if not page_token:
                return found
            page, page_token = self._call(intents.list_intents(page_token), timeout)
            found += page
        raise AnswerRejected(_ENDLESS)

    def cancel_intent(self, name: str, *, reason: str = "", timeout: float | None = None) -> RegisteredIntent:
        """Take back an intent that this workload registered. Tokens that came of it live on."""
        return self._call(intents.cancel_intent(name, reason), timeout)


def _digest(parameters: bytes | None, digest: str | None) -> str | None:
    if parameters is None:
        return digest
    if digest is not None:
        raise InvalidTokenRequest("give the parameters or their digest, not both")
    return intents.parameters_digest(parameters)
