"""How a command calls a running issuer as an operator or a viewer: options, the connection, and readable ends."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client.errors import ClientNotConfigured, IssuerRequestError
from issuer.cli.failure import ExitCode, fail
from issuer.core.duration import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from issuer.cli.admin_client import AdminClient

IssuerTrustDomain = Annotated[
    str | None, typer.Option(metavar="NAME", help="The issuer's trust domain, where it is not yours.")
]
SpiffeIdOption = Annotated[
    str | None, typer.Option("--spiffe-id", metavar="ID", help="Which identity to use, where you have several.")
]


@contextmanager
def connected(
    issuer: str | None,
    issuer_name: str,
    issuer_trust_domain: str | None,
    socket: str | None,
    spiffe_id: str | None,
    timeout: str,
) -> Iterator[AdminClient]:
    """Call as this process, and end the command readably when that does not work."""
    seconds = _seconds(timeout)
    logging.basicConfig(format="issuer: %(message)s", level=logging.ERROR)  # what is tried again need not be told
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 - gRPC reads it when it is imported, which is now
    from agent_client import WorkloadApiError, WorkloadApiNotConfigured  # noqa: PLC0415 - takes a third of a second
    from issuer.cli.admin_client import AdminClient  # noqa: PLC0415 - as above

    try:
        with AdminClient(
            issuer,
            workload_api=socket,
            spiffe_id=spiffe_id,
            issuer_dns_name=issuer_name,
            issuer_trust_domain=issuer_trust_domain,
            timeout=seconds,
        ) as client:
            yield client
    except IssuerRequestError as error:
        _fail_request(error)
    except (ClientNotConfigured, WorkloadApiNotConfigured) as error:
        fail(str(error), ExitCode.USAGE)
    except WorkloadApiError as error:
        fail(str(error))


def _seconds(timeout: str) -> float:
    try:
        seconds = parse_duration(timeout).total_seconds()
    except ValueError as error:
        fail(f"--timeout: {error}", ExitCode.USAGE)
    return seconds or fail("--timeout: is longer than nothing", ExitCode.USAGE)


def _fail_request(error: IssuerRequestError) -> NoReturn:
    details = (("reason", error.reason), ("request", error.request_id), ("remedy", error.remedy))
    fail("\n".join([error.message, *(f"  {name}: {value}" for name, value in details if value)]))
