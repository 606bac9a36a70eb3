"""The authorities of JWT-SVIDs, by trust domain, as the SPIFFE Workload API tells them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from spiffe._proto import workload_pb2, workload_pb2_grpc

from agent_client.workload_api_stream import METADATA, WorkloadApiStream

JwtBundles: TypeAlias = Mapping[str, bytes]
"""The JWK Set of each trust domain, by its name without scheme."""


class JwtBundleWatcher(WorkloadApiStream[JwtBundles]):
    """Keeps the newest JWK Set of each trust domain, own and federated; see :class:`WorkloadApiStream`.

    A trust domain is named without scheme. Its JWK Set is what SPIRE sent and is not looked at.
    """

    def _call(self, stub: workload_pb2_grpc.SpiffeWorkloadAPIStub) -> Any:  # noqa: ANN401 - the base's
        return stub.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=METADATA)

    def _read(self, answer: workload_pb2.JWTBundlesResponse) -> JwtBundles:
        return MappingProxyType({name.removeprefix("spiffe://"): jwks for name, jwks in answer.bundles.items()})
