"""What callers notice while 100,000 tokens of others are revoked by one pattern."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support.ledgers import group_commit, record

from bench.load import WORK, Load, Target, run
from bench.serving import TRUST_DOMAIN, identity_of_servers, issuer_settings, write_credentials
from issuer.cli.admin_client import AdminClient
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer_api.v1 import admin_service_pb2 as pb
from issuer_testing.issuer_process import ISSUER_DNS_NAME, IssuerProcess
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from issuer_testing.issuer_process import Identity

TOKENS, IDENTITIES = 100_000, 10_000
OPERATOR = f"spiffe://{TRUST_DOMAIN}/sre/operator"
RATE, CALLERS, SECONDS = 200.0, 16, 4.0
"""Asked at fixed times and far below the peak, so that what is seen is the revocation and no queue."""


def measure_mass_revocation(folder: Path) -> list[dict[str, object]]:
    """Return the time of the revocation, and the p99 of other callers without it and with it in the middle."""
    with DevelopmentAuthority(TRUST_DOMAIN, announce=lambda _: None) as authority:
        write_credentials(folder, authority.authority)
        options = {"admin": {"operators": [OPERATOR]}}
        settings = issuer_settings(folder, identity_of_servers(authority), options=options)
        ledger = settings.folder / "ledger" / "ledger.sqlite3"
        ledger.parent.mkdir(parents=True)
        asyncio.run(_fill(ledger))
        with IssuerProcess(settings) as issuer:
            target = Target(issuer.address, ISSUER_DNS_NAME, folder, (issuer.pid,))
            load = Load(CALLERS, SECONDS, rate=RATE)
            run(target, WORK["token"], load)  # warm
            without = run(target, WORK["token"], load)
            took: list[float] = []
            revoking = threading.Timer(SECONDS / 2, _revoke, (issuer, authority.workload(Entry(OPERATOR)), took))
            revoking.start()
            during = run(target, WORK["token"], load)
            revoking.join()
    ratio = during.p99_ms / without.p99_ms
    return [
        {"what": f"revoking {TOKENS:,} tokens by one call, others asking", "us": round(took[0] * 1e6)},
        {"what": "p99 of IssueToken without it", "us": round(without.p99_ms * 1e3)},
        {"what": f"p99 of IssueToken with it, {ratio:.2f} times", "us": round(during.p99_ms * 1e3)},
    ]


async def _fill(file: Path) -> None:
    ledger = group_commit(SqliteLedger(file), max_wait=timedelta(seconds=60), max_waiting=10**6)
    await ledger.open()
    for start in range(0, TOKENS, 10_000):
        callers = (f"spiffe://{TRUST_DOMAIN}/x/{number % IDENTITIES}" for number in range(start, start + 10_000))
        await ledger.write(*(record(caller=caller) for caller in callers))
    await ledger.close()


def _revoke(issuer: IssuerProcess, operator: Identity, took: list[float]) -> None:
    with AdminClient(
        issuer.address, workload_api=operator.socket, spiffe_id=operator.spiffe_id, issuer_dns_name=ISSUER_DNS_NAME
    ) as client:
        client.policy_status()  # connected
        selector = pb.TokenSelector(workload=f"spiffe://{TRUST_DOMAIN}/x/**")
        started = time.perf_counter()
        client.revoke(pb.RevokeRequest(selector=selector, reason="a measurement", request_id="once"))
        took.append(time.perf_counter() - started)
