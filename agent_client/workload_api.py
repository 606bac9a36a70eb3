"""The X.509 side of the SPIFFE Workload API, followed for as long as a process lives.

``spiffe.X509Source`` is not used, since it ends for good at the first answer that it cannot parse, and an empty bundle
of a federated trust domain is such an answer (docs/adr/0001). Here every answer replaces one immutable context; what is
wrong in an answer costs the identity or the trust domain that it concerns, and nothing else.
"""

from __future__ import annotations

from typing import Any

from spiffe._proto import workload_pb2, workload_pb2_grpc

from agent_client.workload_api_errors import NoIdentityIssued, WorkloadApiError
from agent_client.workload_api_stream import METADATA, WorkloadApiStream
from agent_client.x509_context import X509Context, X509Svid, parse_answer

__all__ = ["WorkloadApiError", "WorkloadApiWatcher", "X509Context", "X509Svid"]


class WorkloadApiWatcher(WorkloadApiStream[X509Context]):
    """Keeps the newest X.509 context in memory; see :class:`~agent_client.workload_api_stream.WorkloadApiStream`."""

    def _call(self, stub: workload_pb2_grpc.SpiffeWorkloadAPIStub) -> Any:  # noqa: ANN401 - the base's
        return stub.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=METADATA)

    def _read(self, answer: workload_pb2.X509SVIDResponse) -> X509Context:
        context = parse_answer(answer)
        if not context.svids:
            raise NoIdentityIssued(f"{self.socket} answered without an identity that can be used")
        return context
