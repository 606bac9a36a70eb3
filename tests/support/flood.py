"""A small load client, in a process of its own: many calls at once, as fast as they are answered, whatever the answer.

``python flood.py ADDRESS FOLDER CALLS ITEMS`` calls until its standard input ends, then prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.spire.authority import pem_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.deployment import Deployment

CALLS_ON_A_CONNECTION = 100


class Flood:
    """A flood that goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> dict[str, int]:
        """End it; return how often each outcome was: ``served``, a reason with RetryInfo, or something else."""
        out, _ = self._process.communicate(timeout=60)
        outcomes: dict[str, int] = json.loads(out.splitlines()[-1])
        return outcomes


@contextmanager
def flood(deployment: Deployment, spiffe_id: str, folder: Path, calls: int, items: int = 1) -> Iterator[Flood]:
    """Flood the issuer with ``calls`` calls at once of one SPIFFE ID; return when all of them are on their way.

    With more than one item a call is a batch, so that few calls are a flood however fast the machine.
    """
    svid = deployment.svid(spiffe_id)
    folder.mkdir()
    (folder / "chain.pem").write_bytes(svid.chain_pem())
    (folder / "key.pem").write_bytes(svid.key_pem())
    (folder / "roots.pem").write_bytes(pem_bundle([deployment.authority.authority.root]))
    command = [sys.executable, __file__, deployment.issuer.address, str(folder), str(calls), str(items)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield Flood(process)
        finally:
            process.kill()


def outcome_of(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    status, info, retry = Status.FromString(details), ErrorInfo(), RetryInfo()
    if not status.details:
        return f"{error.code().name}: {error.details()}"
    status.details[0].Unpack(info)
    wait = len(status.details) > 1 and status.details[1].Unpack(retry) and retry.retry_delay.ToTimedelta()
    return f"{info.reason}{' with RetryInfo' if wait else ''}"


async def _caller(channel: grpc.aio.Channel, method: str, request: bytes, outcomes: Counter[str]) -> None:
    call = channel.unary_unary(f"/issuer_api.v1.IssuerService/{method}")
    while True:
        try:
            await call(request, timeout=10)
            outcomes["served"] += 1
        except grpc.aio.AioRpcError as error:
            outcomes[outcome_of(error)] += 1


async def _run(address: str, folder: Path, calls: int, items: int) -> Counter[str]:
    credentials = grpc.ssl_channel_credentials(
        *((folder / name).read_bytes() for name in ("roots.pem", "key.pem", "chain.pem"))
    )
    options = [
        ("grpc.ssl_target_name_override", "spiffe-issuer.workload.internal"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    channels = [
        grpc.aio.secure_channel(address, credentials, options) for _ in range(-(-calls // CALLS_ON_A_CONNECTION))
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    one = pb.IssueTokenRequest(audience="https://ledger.dev.test", scopes=["ledger.read"])
    batch = pb.BatchIssueTokensRequest(requests=[one] * items)
    method, request = ("BatchIssueTokens", batch) if items > 1 else ("IssueToken", one)
    message = request.SerializeToString()
    outcomes: Counter[str] = Counter()
    callers = (_caller(channels[n % len(channels)], method, message, outcomes) for n in range(calls))
    tasks = [asyncio.create_task(caller) for caller in callers]
    while outcomes.total() < calls:  # noqa: ASYNC110 - asked seldom, and each caller has more to do than to tell
        await asyncio.sleep(0.01)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, *(channel.close() for channel in channels), return_exceptions=True)
    return outcomes


if __name__ == "__main__":
    _, at, credentials, at_once, in_each = sys.argv
    sys.stdout.write(json.dumps(asyncio.run(_run(at, Path(credentials), int(at_once), int(in_each)))))
