"""A gRPC server: it answers only callers with a token that was issued for it, and of those who have the scope.

A real service has stubs of its own .proto file; this one makes do with messages that protobuf brings.
"""

import asyncio
import os
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from agent_client.verification import TokenVerifier
from agent_client.verification.current import current_token
from agent_client.verification.grpc import TokenInterceptor


async def balance(_request: Empty, _context: grpc.aio.ServicerContext) -> StringValue:
    """Return the ledger's balance."""
    return StringValue(value=f"19.75 EUR, as asked for by {current_token().subject}")


def ledger() -> tuple[grpc.aio.Server, int]:
    """Return the server, and its port."""
    verifier = TokenVerifier(
        os.environ["ISSUER"],
        "https://ledger.prod.example",
        insecure_dev="INSECURE_DEV" in os.environ,  # for `issuer dev up`; never where anything is at stake
    )
    server = grpc.aio.server(interceptors=[TokenInterceptor(verifier, scopes={"/ledger.Ledger/*": ["ledger.read"]})])
    handler = grpc.unary_unary_rpc_method_handler(balance, Empty.FromString, StringValue.SerializeToString)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("ledger.Ledger", {"Balance": handler})])
    # A token is a secret, so it travels over TLS only.
    identity = Path(os.environ["TLS_KEY"]).read_bytes(), Path(os.environ["TLS_CERTIFICATE"]).read_bytes()
    address = f"localhost:{os.environ.get('PORT', '8002')}"
    return server, server.add_secure_port(address, grpc.ssl_server_credentials([identity]))


async def main() -> None:
    """Serve until this process is ended."""
    server, port = ledger()
    await server.start()
    print(f"serving on localhost:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
