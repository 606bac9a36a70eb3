"""An issuer on the embedded authority, and plain gRPC calls to it with any certificate."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess, IssuerSettings
from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from issuer_testing.spire.authority import IssuedSvid

TRUST_DOMAIN = "dev.test"
ISSUER_ID = f"spiffe://{TRUST_DOMAIN}/spiffe-issuer"
SETTLER = f"spiffe://{TRUST_DOMAIN}/ns/payments/sa/settler"
READER = f"spiffe://{TRUST_DOMAIN}/ns/reports/sa/reader"
LEDGER = "https://ledger.dev.test"
POLICY = f"""\
version: 1
audiences:
  - name: {LEDGER}
    application: ledger
    max_ttl: 10m
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.write, risk: high, max_ttl: 2m}}
grants:
  - id: settlement
    owner: payments-team
    workloads: ["{SETTLER}"]
    application: payments
    audience: {LEDGER}
    scopes: [ledger.read, ledger.write]
"""
REQUEST = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"])
DEADLINE = 10.0


class Deployment:
    """One trust domain under ``.test``, and one issuer in it."""

    def __init__(
        self,
        folder: Path,
        *,
        policy: str = POLICY,
        federated: tuple[str, ...] = (),
        options: Mapping[str, Mapping[str, object]] | None = None,
        svid_ttl_seconds: int = 0,
    ) -> None:
        self.authority = DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None)
        self.policy_file = folder / "policy.yaml"
        self.policy_file.write_text(policy, encoding="utf-8")
        entry = Entry(ISSUER_ID, dns_names=(ISSUER_DNS_NAME,), x509_svid_ttl=svid_ttl_seconds)
        self._stack = ExitStack()
        self._stack.enter_context(self.authority)
        self.identity = self.authority.workload(entry)
        self.settings = IssuerSettings(
            folder=folder / "issuer",
            policy=self.policy_file,
            workload_api=self.identity.socket,
            federated_trust_domains=federated,
            insecure_dev=True,
            options=options,
        )
        self.issuer = IssuerProcess(self.settings)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.issuer)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def another_issuer(self, name: str, listen: str = "127.0.0.1:0") -> Iterator[IssuerProcess]:
        """Start one more issuer, of the same identity and policy, with a key and a ledger of its own."""
        settings = replace(
            self.settings, folder=self.settings.folder.with_name(name), options={"server": {"listen": listen}}
        )
        with IssuerProcess(settings) as issuer:
            yield issuer

    def svid(self, spiffe_id: str = SETTLER, **faults: Any) -> IssuedSvid:
        """Return a certificate of this trust domain's root."""
        return self.authority.authority.issue(spiffe_id, **faults)

    @contextmanager
    def channel(self, svid: IssuedSvid) -> Iterator[grpc.Channel]:
        """Open a channel with this certificate, on a connection of its own."""
        credentials = grpc.ssl_channel_credentials(
            pem_bundle([self.authority.authority.root]), svid.key_pem(), svid.chain_pem()
        )
        options = [("grpc.ssl_target_name_override", ISSUER_DNS_NAME), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.issuer.address, credentials, options) as channel:
            yield channel

    @contextmanager
    def stub(self, svid: IssuedSvid | None = None) -> Iterator[pb_grpc.IssuerServiceStub]:
        """Open a channel, by default as the settlement workload, and return its stub."""
        with self.channel(svid or self.svid()) as channel:
            yield pb_grpc.IssuerServiceStub(channel)


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason of an error that the issuer sent; ``""`` for one that it did not."""
    return str(info_of(error).reason)


def info_of(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo of an error."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return info
