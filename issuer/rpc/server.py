"""The grpc.aio adapter: TLS, limits, handlers, graceful stop. Everything it serves is written without it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from issuer.garbage_collection import keep
from issuer.rpc.call import Call
from issuer.rpc.gathered import Gathered
from issuer.rpc.health import Health
from issuer.rpc.listener import AddressInUse
from issuer.rpc.pipeline import RpcFailed
from issuer.rpc.reflection import reflection_handlers
from issuer.rpc.together import ISSUE_TOKEN
from issuer_api.v1 import access_service_pb2 as access_pb
from issuer_api.v1 import admin_service_pb2 as admin_pb
from issuer_api.v1 import approval_service_pb2 as approval_pb
from issuer_api.v1 import intent_service_pb2 as intent_pb
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import timedelta

    from google.protobuf.message import Message
    from google.rpc.status_pb2 import Status
    from structlog.typing import FilteringBoundLogger

    from issuer.ports import ServerIdentity, TlsMaterial
    from issuer.rpc.access_methods import AccessMethods
    from issuer.rpc.admin_methods import AdminMethods
    from issuer.rpc.approval_methods import ApprovalMethods
    from issuer.rpc.intent_methods import IntentMethods
    from issuer.rpc.listener import Listener
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.pipeline import Pipeline
    from issuer.rpc.services import Services
    from issuer.rpc.settings import RpcSettings
    from issuer.rpc.together import MakeTogether

ISSUER_SERVICE = pb.DESCRIPTOR.services_by_name["IssuerService"].full_name
APPROVAL_SERVICE = approval_pb.DESCRIPTOR.services_by_name["ApprovalService"].full_name
ACCESS_SERVICE = access_pb.DESCRIPTOR.services_by_name["AccessService"].full_name
INTENT_SERVICE = intent_pb.DESCRIPTOR.services_by_name["IntentService"].full_name
ADMIN_SERVICE = admin_pb.DESCRIPTOR.services_by_name["AdminService"].full_name

MAX_PING_STRIKES = 2
"""As gRPC has it: the third ping that comes too early ends the connection."""
QUIET_SECONDS = 0.1
"""Without an arrival for so long, nothing is waiting for its turn when the server stops."""

_REQUESTS: dict[str, type[Message]] = {
    f"{service.full_name}/{method.name}": GetMessageClass(method.input_type)
    for service in (
        pb.DESCRIPTOR.services_by_name["IssuerService"],
        admin_pb.DESCRIPTOR.services_by_name["AdminService"],
        approval_pb.DESCRIPTOR.services_by_name["ApprovalService"],
        access_pb.DESCRIPTOR.services_by_name["AccessService"],
        intent_pb.DESCRIPTOR.services_by_name["IntentService"],
    )
    for method in service.methods
}
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RpcServer:
    """Serves IssuerService, health and reflection over mutual TLS, on whichever transport.

    Nothing here decides anything: TLS admits whoever holds a key that one of the configured trust domains certified,
    and the pipeline then verifies the caller for each call.
    """

    def __init__(
        self,
        listener: Listener,
        services: Services,
        *,
        admin: AdminMethods,
        pipeline: Pipeline,
        together: MakeTogether,
        log: FilteringBoundLogger,
    ) -> None:
        self._pipeline = pipeline
        self._gathered = Gathered(together)
        self.health = Health((ISSUER_SERVICE,), log)
        self._listener = listener
        self._handlers = (
            grpc.method_handlers_generic_handler(ISSUER_SERVICE, self._issuer_handlers(services.methods)),
            grpc.method_handlers_generic_handler(ADMIN_SERVICE, self._admin_handlers(admin, services)),
            grpc.method_handlers_generic_handler(APPROVAL_SERVICE, self._approval_handlers(services.approvals)),
            grpc.method_handlers_generic_handler(ACCESS_SERVICE, self._access_handlers(services.accesses)),
            grpc.method_handlers_generic_handler(INTENT_SERVICE, self._intent_handlers(services.intents)),
            *self.health.handlers(),
            *reflection_handlers(
                (ISSUER_SERVICE, ADMIN_SERVICE, APPROVAL_SERVICE, ACCESS_SERVICE, INTENT_SERVICE), log
            ),
        )
        self._in_flight = 0
        self._last_arrival = 0.0

    def bind(self) -> int:
        """Take the address and return the port.

        Raises:
            AddressInUse: When it cannot be taken.
        """
        return self._listener.bind()

    async def start(self) -> None:
        """Accept calls."""
        keep()
        await self._listener.start(self._handlers)

    async def stop(self, grace: timedelta) -> None:
        """Say NOT_SERVING, answer what has arrived, and give calls in flight up to ``grace`` to end."""
        await self.health.shut_down()
        await self._settle(grace.total_seconds() / 2)
        await self._listener.stop(grace.total_seconds() / 2)

    async def _settle(self, within: float) -> None:
        """Wait until no call was in flight for a moment.

        Calls that have arrived but wait for their turn are cancelled when grpc.aio stops, and no client retries those.
        """
        now = time.monotonic
        give_up = now() + within
        # Polled, since quiet is the absence of events.
        while now() < give_up and (self._in_flight or now() - self._last_arrival < QUIET_SECONDS):  # noqa: ASYNC110
            await asyncio.sleep(QUIET_SECONDS / 5)

    def _issuer_handlers(self, methods: IssuerMethods) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "IssueToken": self._issue_token(methods),
            "BatchIssueTokens": self._unary(ISSUER_SERVICE, "BatchIssueTokens", methods.batch_issue_tokens),
            "ListAccess": self._unary(ISSUER_SERVICE, "ListAccess", methods.list_access),
            "GetKeySet": self._unary(ISSUER_SERVICE, "GetKeySet", methods.get_key_set),
            "RevokeToken": self._unary(ISSUER_SERVICE, "RevokeToken", methods.revoke_token),
            "ExchangeToken": self._unary(ISSUER_SERVICE, "ExchangeToken", methods.exchange_token),
            "IntrospectToken": self._unary(ISSUER_SERVICE, "IntrospectToken", methods.introspect_token),
            "WatchRevocations": self._stream(ISSUER_SERVICE, "WatchRevocations", methods.watch_revocations),
        }

    def _approval_handlers(self, methods: ApprovalMethods) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "CreateApprovalRequest": self._unary(APPROVAL_SERVICE, "CreateApprovalRequest", methods.create),
            "GetApprovalRequest": self._unary(APPROVAL_SERVICE, "GetApprovalRequest", methods.get),
            "WaitApprovalRequest": self._stream(APPROVAL_SERVICE, "WaitApprovalRequest", methods.wait),
            "ListApprovalRequests": self._unary(APPROVAL_SERVICE, "ListApprovalRequests", methods.list),
            "ApproveRequest": self._unary(APPROVAL_SERVICE, "ApproveRequest", methods.approve),
            "DenyRequest": self._unary(APPROVAL_SERVICE, "DenyRequest", methods.deny),
            "CancelRequest": self._unary(APPROVAL_SERVICE, "CancelRequest", methods.cancel),
        }

    def _access_handlers(self, methods: AccessMethods) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "StartAccess": self._unary(ACCESS_SERVICE, "StartAccess", methods.start),
            "CompleteAccess": self._unary(ACCESS_SERVICE, "CompleteAccess", methods.complete),
            "GetAccessWindow": self._unary(ACCESS_SERVICE, "GetAccessWindow", methods.get),
            "ListAccessWindows": self._unary(ACCESS_SERVICE, "ListAccessWindows", methods.list),
            "EndAccess": self._unary(ACCESS_SERVICE, "EndAccess", methods.end),
        }

    def _intent_handlers(self, methods: IntentMethods) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "RegisterIntent": self._unary(INTENT_SERVICE, "RegisterIntent", methods.register),
            "GetIntent": self._unary(INTENT_SERVICE, "GetIntent", methods.get),
            "ListIntents": self._unary(INTENT_SERVICE, "ListIntents", methods.list),
            "CancelIntent": self._unary(INTENT_SERVICE, "CancelIntent", methods.cancel),
            "RedeemIntent": self._unary(INTENT_SERVICE, "RedeemIntent", methods.redeem),
        }

    def _admin_handlers(
        self,
        methods: AdminMethods,
        services: Services,
    ) -> dict[str, grpc.RpcMethodHandler]:
        decisions, reports, revocations = services.decisions, services.reports, services.revocations
        keys = services.keys
        return {
            "PutFacts": self._unary(ADMIN_SERVICE, "PutFacts", methods.put_facts),
            "GetPolicyStatus": self._unary(ADMIN_SERVICE, "GetPolicyStatus", methods.get_policy_status),
            "ReloadPolicy": self._unary(ADMIN_SERVICE, "ReloadPolicy", methods.reload_policy),
            "RollbackPolicy": self._unary(ADMIN_SERVICE, "RollbackPolicy", methods.rollback_policy),
            "ListDecisions": self._unary(ADMIN_SERVICE, "ListDecisions", decisions.list_decisions),
            "GetDecision": self._unary(ADMIN_SERVICE, "GetDecision", decisions.get_decision),
            "WatchDecisions": self._stream(ADMIN_SERVICE, "WatchDecisions", decisions.watch_decisions),
            "ListDenials": self._unary(ADMIN_SERVICE, "ListDenials", reports.list_denials),
            "ListSharedIdentities": self._unary(ADMIN_SERVICE, "ListSharedIdentities", reports.list_shared_identities),
            "ListUnusedRights": self._unary(ADMIN_SERVICE, "ListUnusedRights", reports.list_unused_rights),
            "GetTop": self._unary(ADMIN_SERVICE, "GetTop", reports.get_top),
            "ListExceptionUses": self._unary(ADMIN_SERVICE, "ListExceptionUses", reports.list_exception_uses),
            "Revoke": self._unary(ADMIN_SERVICE, "Revoke", revocations.revoke),
            "ListRevocations": self._unary(ADMIN_SERVICE, "ListRevocations", revocations.list_revocations),
            "LiftRevocation": self._unary(ADMIN_SERVICE, "LiftRevocation", revocations.lift_revocation),
            "ListKeys": self._unary(ADMIN_SERVICE, "ListKeys", keys.list_keys),
            "PrepareKey": self._unary(ADMIN_SERVICE, "PrepareKey", keys.prepare_key),
            "ActivateKey": self._unary(ADMIN_SERVICE, "ActivateKey", keys.activate_key),
            "RemoveKey": self._unary(ADMIN_SERVICE, "RemoveKey", keys.remove_key),
        }

    def _unary(
        self, service: str, name: str, method: Callable[[Any, Any], Awaitable[Message]]
    ) -> grpc.RpcMethodHandler:
        full_name = f"{service}/{name}"
        request = _REQUESTS[full_name]
        clock = time.monotonic

        async def handler(message: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            self._in_flight += 1
            self._last_arrival = clock()
            try:
                return await self._pipeline.answer(method, message, call_from_context(full_name, context))
            except RpcFailed as failure:
                await _abort(context, failure.status)
            finally:
                self._in_flight -= 1

        return grpc.unary_unary_rpc_method_handler(
            handler, request_deserializer=request.FromString, response_serializer=_serialize
        )

    def _issue_token(self, methods: IssuerMethods) -> grpc.RpcMethodHandler:
        """Serve the method that is called most: together with other calls of it, where that can be."""
        alone = self._unary(ISSUER_SERVICE, "IssueToken", methods.issue_token)

        async def handler(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            self._in_flight += 1
            self._last_arrival = time.monotonic()
            try:
                answer = await self._gathered.answer(call_from_context(ISSUE_TOKEN, context), message)
            finally:
                self._in_flight -= 1
            if isinstance(answer, bytes):
                return answer
            if answer is not None:
                await _abort(context, answer)
            try:
                request = alone.request_deserializer(message)
            except DecodeError:
                await context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return _serialize(await alone.unary_unary(request, context))

        return grpc.unary_unary_rpc_method_handler(handler)

    def _stream(
        self, service: str, name: str, method: Callable[[Any, Any], AsyncIterator[Any]]
    ) -> grpc.RpcMethodHandler:
        """Serve a method that answers many times. It is not waited for when the server stops."""
        full_name = f"{service}/{name}"
        request = _REQUESTS[full_name]

        async def handler(message: Message, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
            try:
                async with aclosing(
                    self._pipeline.answers(method, message, call_from_context(full_name, context))
                ) as answers:
                    async for answer in answers:
                        yield answer
            except RpcFailed as failure:
                await _abort(context, failure.status)

        return grpc.unary_stream_rpc_method_handler(
            handler, request_deserializer=request.FromString, response_serializer=_serialize
        )


class GrpcioListener:
    """The first transport: grpc.aio.

    Args:
        settings: Address and limits.
        identity: The issuer's own SVID and the roots to accept.
    """

    def __init__(self, settings: RpcSettings, *, identity: ServerIdentity) -> None:
        self._settings = settings
        self._server = grpc.aio.server(options=server_options(settings))
        self._credentials = TlsCredentials(identity)

    def bind(self) -> int:
        """Take the address and return the port.

        Raises:
            AddressInUse: When it cannot be taken.
        """
        try:
            return int(self._server.add_secure_port(self._settings.listen, self._credentials.server_credentials()))
        except RuntimeError as error:
            raise AddressInUse(self._settings.listen) from error

    async def start(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Accept calls."""
        self._server.add_generic_rpc_handlers(handlers)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Accept no more, and give calls in flight up to so many seconds to end."""
        await self._server.stop(grace)


def call_from_context(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    """Return what grpc.aio knows about a call.

    C-core also offers ``peer_spiffe_id``; it is not read, since our own parser decides what a SPIFFE ID is.
    """
    auth = context.auth_context()
    return Call(
        method=method,
        peer=context.peer(),
        leaf_pem=_first(auth.get("x509_pem_cert")),
        intermediates_pem=_first(auth.get("x509_pem_cert_chain")),
        within=context.time_remaining(),
        metadata=context.invocation_metadata,
    )


def _first(values: list[bytes] | None) -> bytes | None:
    return values[0] if values else None


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


async def _abort(context: grpc.aio.ServicerContext[Any, Any], status: Status) -> NoReturn:
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_STATUS_CODES[status.code], status.message, details)
    raise AssertionError("abort() always raises")


def server_options(settings: RpcSettings) -> list[tuple[str, int]]:
    """Return the channel arguments of a server with these limits."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # The soft limit starts to refuse at random below the hard one; equal values make it one clear limit.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.max_connection_age_grace)),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.handshake_timeout)),
        ("grpc.http2.settings_timeout", _milliseconds(settings.handshake_timeout)),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.max_connection_idle)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        # The one above alone does not end a connection whose peer is silent; a test attacks that.
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(settings.min_ping_interval)),
        ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
        # On by default, it would let two issuers share one port without a word.
        ("grpc.so_reuseport", int(settings.shares_port)),
    ]


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


class TlsCredentials:
    """Gives each handshake the newest SVID and roots, so that rotation needs no restart and drops no call."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._identity = identity
        self._served: TlsMaterial | None = None

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that demand a client certificate and ask for new material at every handshake."""
        self._served = self._identity.tls_material()
        return grpc.dynamic_ssl_server_credentials(
            _certificate_configuration(self._served), self._fetch, require_client_authentication=True
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        # Runs in a thread of gRPC's at every handshake; None means "as before".
        material = self._identity.tls_material()
        if material is self._served:
            return None
        self._served = material
        return _certificate_configuration(material)


def _certificate_configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        ((material.private_key, material.certificate_chain),), root_certificates=material.roots
    )
