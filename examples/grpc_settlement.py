"""A gRPC client: its calls carry a token that is always fresh."""

import os
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from agent_client import SyncIssuerClient
from agent_client.adapters.grpc import SyncTokenInterceptor, call_credentials


def main() -> None:
    """Ask the ledger for its balance, and print it."""
    with SyncIssuerClient() as issuer:
        tokens = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
        tls = grpc.ssl_channel_credentials(Path(os.environ["TLS_CERTIFICATE"]).read_bytes())
        credentials = grpc.composite_channel_credentials(tls, call_credentials(tokens))
        with grpc.secure_channel(os.environ.get("LEDGER", "localhost:8002"), credentials) as channel:
            # Beside the credentials: it replaces a token that the ledger refuses, and raises typed errors.
            trusted = grpc.intercept_channel(channel, SyncTokenInterceptor(tokens))
            balance = trusted.unary_unary("/ledger.Ledger/Balance", Empty.SerializeToString, StringValue.FromString)
            print(balance(Empty(), timeout=10).value)


if __name__ == "__main__":
    main()
