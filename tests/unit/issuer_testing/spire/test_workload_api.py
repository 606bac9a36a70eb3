from __future__ import annotations

import asyncio
import os
import queue
import stat
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from spiffe import WorkloadApiClient, X509Source
from spiffe._proto import workload_pb2, workload_pb2_grpc

from issuer_testing.spire.authority import Authority, der_bundle
from issuer_testing.spire.workload_api import Answer, WorkloadApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
HEADER = (("workload.spiffe.io", "true"),)
DEADLINE = 10.0


@pytest.fixture
def prod() -> Authority:
    return Authority("prod.example")


@pytest.fixture
def api(prod: Authority) -> Iterator[WorkloadApiServer]:
    with WorkloadApiServer(Answer.of(prod, prod.issue(SETTLER))) as server:
        yield server


@contextmanager
def stub(api: WorkloadApiServer) -> Iterator[workload_pb2_grpc.SpiffeWorkloadAPIStub]:
    with grpc.insecure_channel(api.socket) as channel:
        yield workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]


@contextmanager
def svid_stream(api: WorkloadApiServer) -> Iterator[Iterator[workload_pb2.X509SVIDResponse]]:
    with stub(api) as client:
        call = client.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=DEADLINE)
        yield call
        call.cancel()


def test_py_spiffe_gets_the_svid_and_its_bundle(api: WorkloadApiServer, prod: Authority) -> None:
    client = WorkloadApiClient(api.socket)
    context = client.fetch_x509_context(timeout=DEADLINE)
    client.close()
    assert str(context.default_svid.spiffe_id) == SETTLER
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(context.default_svid.spiffe_id.trust_domain)
    assert bundle is not None
    assert bundle.x509_authorities == {prod.root}


def test_a_published_svid_reaches_an_x509_source(api: WorkloadApiServer, prod: Authority) -> None:
    seen: queue.Queue[int] = queue.Queue()
    with X509Source(socket_path=api.socket, timeout_in_seconds=DEADLINE) as source:
        source.subscribe_for_updates(lambda: seen.put(source.get_x509_context().default_svid.leaf.serial_number))
        fresh = prod.issue(SETTLER)
        api.change(svids=(fresh,))
        assert seen.get(timeout=DEADLINE) == fresh.leaf.serial_number


def test_chain_key_bundle_hint_and_federated_bundles_arrive(prod: Authority) -> None:
    partner = Authority("partner.example")
    svid = prod.intermediate().issue(SETTLER)
    answer = Answer("prod.example", svids=(svid,), bundle=(prod.root,), federated={"partner.example": (partner.root,)})
    with WorkloadApiServer(answer) as api, svid_stream(api) as stream:
        response = next(stream)
    (given,) = response.svids
    assert given.x509_svid == der_bundle(svid.cert_chain)
    assert given.x509_svid_key == svid.key_der()
    assert given.bundle == der_bundle([prod.root])
    assert dict(response.federated_bundles) == {"spiffe://partner.example": der_bundle([partner.root])}


def test_bundles_are_served_to_those_who_only_verify(api: WorkloadApiServer, prod: Authority) -> None:
    with stub(api) as client:
        call = client.FetchX509Bundles(workload_pb2.X509BundlesRequest(), metadata=HEADER, timeout=DEADLINE)
        assert dict(next(call).bundles) == {"spiffe://prod.example": der_bundle([prod.root])}
        call.cancel()


def test_a_bundle_that_becomes_empty_is_pushed(api: WorkloadApiServer) -> None:
    with svid_stream(api) as stream:
        assert next(stream).svids[0].bundle
        api.change(bundle=())
        assert next(stream).svids[0].bundle == b""


def test_an_answer_without_identities_is_pushed(api: WorkloadApiServer) -> None:
    with svid_stream(api) as stream:
        next(stream)
        api.change(svids=())
        assert not next(stream).svids


def test_a_denial_ends_the_stream_and_holds_for_new_ones_until_it_is_lifted(api: WorkloadApiServer) -> None:
    with svid_stream(api) as stream:
        next(stream)
        api.deny()
        with pytest.raises(grpc.RpcError) as denied:
            next(stream)
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with svid_stream(api) as stream, pytest.raises(grpc.RpcError, match="no identity issued"):
        next(stream)
    api.change(refusal=None)
    with svid_stream(api) as stream:
        assert next(stream).svids


def test_a_call_without_the_security_header_is_refused(api: WorkloadApiServer) -> None:
    with stub(api) as client:
        call = client.FetchX509SVID(workload_pb2.X509SVIDRequest(), timeout=DEADLINE)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("FetchJWTSVID", workload_pb2.JWTSVIDRequest(audience=["a"])),
        ("ValidateJWTSVID", workload_pb2.ValidateJWTSVIDRequest(audience="a", svid="x")),
    ],
)
def test_jwt_svids_are_not_implemented(api: WorkloadApiServer, method: str, request_message: object) -> None:
    with stub(api) as client, pytest.raises(grpc.RpcError) as refused:
        getattr(client, method)(request_message, metadata=HEADER, timeout=DEADLINE)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_jwt_bundles_are_pushed_where_there_are_some(api: WorkloadApiServer) -> None:
    api.change(jwt_bundles={"prod.example": b"{}"})
    with stub(api) as client:
        call = client.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER, timeout=DEADLINE)
        assert dict(next(call).bundles) == {"spiffe://prod.example": b"{}"}
        api.change(jwt_bundles={"prod.example": b"[]"})
        assert dict(next(call).bundles) == {"spiffe://prod.example": b"[]"}
        call.cancel()


def test_jwt_bundles_are_not_implemented_where_there_are_none(api: WorkloadApiServer) -> None:
    with stub(api) as client:
        call = client.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER, timeout=DEADLINE)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_x509_source_recovers_from_a_restart_on_the_same_socket(api: WorkloadApiServer, prod: Authority) -> None:
    seen: queue.Queue[int] = queue.Queue()
    with X509Source(socket_path=api.socket, timeout_in_seconds=DEADLINE) as source:
        api.stop()
        source.subscribe_for_updates(lambda: seen.put(source.get_x509_context().default_svid.leaf.serial_number))
        fresh = prod.issue(SETTLER)
        api.change(svids=(fresh,))
        api.start()
        assert seen.get(timeout=DEADLINE) == fresh.leaf.serial_number


def test_a_stopped_server_ends_its_streams_with_unavailable(api: WorkloadApiServer) -> None:
    with svid_stream(api) as stream:
        next(stream)
        api.stop()
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
    assert ended.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_it_serves_grpc_aio_in_the_same_process(api: WorkloadApiServer) -> None:
    async with grpc.aio.insecure_channel(api.socket) as channel:
        client = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]
        call = client.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=DEADLINE)
        first = await call.read()
        api.deny()
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(call.read(), DEADLINE)
    assert first.svids[0].spiffe_id == SETTLER


def test_the_socket_lies_in_a_folder_of_this_user_which_close_removes(prod: Authority) -> None:
    api = WorkloadApiServer(Answer.of(prod, prod.issue(SETTLER)))
    folder = Path(api.socket.removeprefix("unix://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()
    api.start()
    api.close()
    assert not folder.exists()


def test_a_forgotten_server_does_not_keep_the_interpreter_alive() -> None:
    program = textwrap.dedent("""
        import grpc
        from spiffe import X509Source
        from issuer_testing.spire.authority import Authority
        from issuer_testing.spire.workload_api import Answer, WorkloadApiServer
        prod = Authority("prod.example")
        api = WorkloadApiServer(Answer.of(prod, prod.issue("spiffe://prod.example/a")))
        api.start()
        X509Source(socket_path=api.socket, timeout_in_seconds=10)
    """)
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
