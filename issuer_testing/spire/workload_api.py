"""A Workload API on a UNIX socket that answers what it is told: a real gRPC server, without attestation behind it.

For tests, and below the development authority of ``embedded.py``. One server stands for one workload: whoever reaches
the socket gets its answer. The state is one frozen :class:`Answer`; publishing another one pushes it to every open
stream, as the SPIRE agent does::

    prod = Authority("prod.example")
    with WorkloadApiServer(Answer.of(prod, prod.issue("spiffe://prod.example/a"))) as api:
        source = X509Source(socket_path=api.socket)
        api.change(bundle=())            # a bundle that became empty
        api.deny()                       # the entry is gone: PERMISSION_DENIED
        api.change(refusal=None)         # and back
        api.stop(); api.start()          # an agent that restarts on the same socket
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from spiffe._proto import workload_pb2, workload_pb2_grpc

from issuer_testing.spire.authority import Authority, IssuedSvid, der_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cryptography.x509 import Certificate

# Each open stream holds a thread; more callers than this are told RESOURCE_EXHAUSTED.
MAX_STREAMS = 128
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Workload API says to one workload.

    Attributes:
        trust_domain: The workload's own trust domain, without scheme.
        svids: Its identities, the default one first. May be empty, which no SPIRE answers, to test callers.
        bundle: The authorities of its trust domain. Empty means: nobody of it is to be trusted.
        federated: The authorities of other trust domains, by name without scheme.
        refusal: A status code and text instead of all that.
        jwt_bundles: The JWK Set of the JWT authorities of each trust domain, by name without scheme. Without any, its
            RPC is UNIMPLEMENTED.
    """

    trust_domain: str
    svids: tuple[IssuedSvid, ...] = ()
    bundle: tuple[Certificate, ...] = ()
    federated: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)
    refusal: tuple[grpc.StatusCode, str] | None = None
    jwt_bundles: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, authority: Authority, *svids: IssuedSvid) -> Answer:
        """Return the answer of a trust domain with one root."""
        return cls(trust_domain=authority.trust_domain, svids=svids, bundle=(authority.root,))


class WorkloadApiServer:
    """One workload's Workload API. Safe to use from any thread; its own work is done in threads."""

    def __init__(self, answer: Answer, socket_file: Path | None = None) -> None:
        """Prepare a server; :meth:`start` opens the socket.

        Args:
            answer: The first answer.
            socket_file: Where to listen, at most 107 bytes (the kernel's limit); default a fresh private folder in the
                system's temporary folder, removed by :meth:`close`.
        """
        self._folder = None if socket_file else Path(tempfile.mkdtemp(prefix="spiffe-"))
        self._file = socket_file or Path(str(self._folder)) / "workload.sock"
        self._answer, self._version = answer, 0
        self._changed = threading.Condition()
        self._server: grpc.Server | None = None

    @property
    def socket(self) -> str:
        """The value for ``SPIFFE_ENDPOINT_SOCKET``."""
        return f"unix://{self._file}"

    @property
    def answer(self) -> Answer:
        """The answer in force."""
        return self._answer

    def publish(self, answer: Answer) -> None:
        """Replace the answer; every open stream gets the new one."""
        with self._changed:
            self._answer, self._version = answer, self._version + 1
            self._changed.notify_all()

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - the fields of Answer, checked by replace()
        """Replace single fields of the answer; every open stream gets the new one."""
        with self._changed:
            self.publish(replace(self._answer, **fields))

    def deny(self, message: str = "no identity issued") -> None:
        """Answer as a SPIRE agent does when no entry fits: PERMISSION_DENIED. Undo with ``change(refusal=None)``."""
        self.change(refusal=(grpc.StatusCode.PERMISSION_DENIED, message))

    def start(self) -> None:
        """Listen. Starting a server that runs does nothing.

        Raises:
            RuntimeError: The socket cannot be opened.
        """
        if self._server is None:
            # gRPC uses nothing but submit(), whatever its annotations say.
            server = grpc.server(_DaemonThreads(), maximum_concurrent_rpcs=MAX_STREAMS)
            workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(_Servicer(self), server)  # type: ignore[no-untyped-call]
            server.add_insecure_port(f"unix:{self._file}")
            server.start()
            self._server = server

    def stop(self) -> None:
        """End every stream and close the socket; the answer is kept for the next :meth:`start`."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(grace=None).wait(STOP_SECONDS)
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Stop, and remove what :meth:`__init__` made."""
        self.stop()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answers(self, is_open: Callable[[], bool]) -> Iterator[Answer]:
        """Yield the answer in force and every later one, until ``is_open`` says no."""
        seen = -1
        while is_open():
            with self._changed:
                while self._version == seen and is_open():
                    self._changed.wait()
                answer, seen = self._answer, self._version
            if is_open():
                yield answer

    def wake(self) -> None:
        """Let every stream look whether it is still open."""
        with self._changed:
            self._changed.notify_all()


class _DaemonThreads(Executor):
    """One daemon thread a call: a stream that nobody closed does not keep the interpreter alive, as a pool's would."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - the base's
        future: Future[Any] = Future()
        threading.Thread(target=_run, args=(future, lambda: fn(*args, **kwargs)), daemon=True).start()
        return future


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - a future hands every error to whoever asked
        future.set_exception(error)


class _Servicer(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """The five RPCs of the SPIFFE Workload API; those of single JWT-SVIDs are UNIMPLEMENTED, by the base class."""

    def __init__(self, api: WorkloadApiServer) -> None:
        self._api = api

    def FetchX509SVID(  # noqa: N802 - the RPC's name
        self, _: workload_pb2.X509SVIDRequest, context: grpc.ServicerContext
    ) -> Iterator[workload_pb2.X509SVIDResponse]:
        for answer in self._answers(context):
            yield _x509_svid_response(answer)

    def FetchX509Bundles(  # noqa: N802 - the RPC's name
        self, _: workload_pb2.X509BundlesRequest, context: grpc.ServicerContext
    ) -> Iterator[workload_pb2.X509BundlesResponse]:
        for answer in self._answers(context):
            yield workload_pb2.X509BundlesResponse(
                bundles=_bundles({answer.trust_domain: answer.bundle, **answer.federated})
            )

    def FetchJWTBundles(  # noqa: N802 - the RPC's name
        self, _: workload_pb2.JWTBundlesRequest, context: grpc.ServicerContext
    ) -> Iterator[workload_pb2.JWTBundlesResponse]:
        for answer in self._answers(context):
            if not answer.jwt_bundles:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
            yield workload_pb2.JWTBundlesResponse(
                bundles={f"spiffe://{name}": jwks for name, jwks in answer.jwt_bundles.items()}
            )

    def _answers(self, context: grpc.ServicerContext) -> Iterator[Answer]:
        _require_header(context)
        if not context.add_callback(self._api.wake):
            return
        for answer in self._api.answers(context.is_active):
            if answer.refusal is not None:
                context.abort(*answer.refusal)
            yield answer


def _require_header(context: grpc.ServicerContext) -> None:
    """Refuse a call without the header that a forged request lacks (SPIFFE Workload Endpoint section 6)."""
    if ("workload.spiffe.io", "true") not in [(key, value) for key, value in context.invocation_metadata()]:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")


def _x509_svid_response(answer: Answer) -> workload_pb2.X509SVIDResponse:
    bundle = der_bundle(answer.bundle)
    svids = [
        workload_pb2.X509SVID(
            spiffe_id=svid.spiffe_id,
            x509_svid=svid.chain_der(),
            x509_svid_key=svid.key_der(),
            bundle=bundle,
            hint=svid.hint,
        )
        for svid in answer.svids
    ]
    return workload_pb2.X509SVIDResponse(svids=svids, federated_bundles=_bundles(answer.federated))


def _bundles(authorities: Mapping[str, tuple[Certificate, ...]]) -> dict[str, bytes]:
    return {f"spiffe://{name}": der_bundle(certificates) for name, certificates in authorities.items()}
