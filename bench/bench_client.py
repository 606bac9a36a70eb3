"""What the client costs who uses it: kept tokens, verification, imports; each beside a reference in the same run."""

from __future__ import annotations

import asyncio
import base64
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from support.deployment import LEDGER, SETTLER, Deployment
from support.kept_tokens import REQUEST, arrival, token
from support.renewal_simulation import Outage, Simulation, largest_second, starts
from support.scripted_tokens import seconds

from agent_client import IssuerClient, SyncIssuerClient
from agent_client.clock import elapsed
from agent_client.tokens.aio import Tokens
from agent_client.tokens.sync import SyncTokens
from agent_client.verification import TokenVerifier
from agent_client.verification.key_sources import IssuerKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.tokens.entry import Arrival

CHUNKS = 60
"""Short ones, of what is measured and of its reference in turn: what else the machine does strikes both alike. They are
timed by the CPU time of their thread, for the same reason."""
SCOPES = ["ledger.read"]
TASKS, THREADS = 10_000, 1_000
LIFETIME = 300
PROCESSES = 9
IMPORTED = {
    "SyncIssuerClient": "import agent_client; agent_client.SyncIssuerClient",
    "IssuerClient": "import agent_client; agent_client.IssuerClient",
    "TokenVerifier": "from agent_client.verification import TokenVerifier",
}


def measure_client(console: Console) -> list[dict[str, object]]:
    """Return all figures of the client, as rows."""
    rows = [_cached_in_threads(), asyncio.run(_cached_in_a_loop())]
    console.print("client: a real issuer", style="dim")
    with tempfile.TemporaryDirectory() as name, Deployment(Path(name)) as deployment:
        rows += [_first_in_tasks(deployment), _first_in_threads(deployment), _verification(deployment)]
    console.print("client: simulations", style="dim")
    rows += [_spread(), *(_outage(hangs=hangs) for hangs in (False, True))]
    console.print("client: imports", style="dim")
    return rows + _imports()


def _row(measured: str, value: str, reference: str = "", ratio: str = "", aim: str = "") -> dict[str, object]:
    return {"measured": measured, "value": value, "reference": reference, "ratio": ratio, "aim": aim}


# --- A cached token


@dataclass
class _Holder:
    """The reference: a token in an attribute."""

    token: IssuedToken


def _cached_in_threads() -> dict[str, object]:
    def issue(_: TokenRequest, __: float) -> Arrival:
        return arrival(token(3600, 1800), elapsed())

    source = SyncTokens(issue, seconds, lambda: arrival(token(), 0.0).caller).source(REQUEST, keep_fresh=False)
    holder = _Holder(source.get(timeout=1.0))

    def get(times: int) -> None:
        for _ in range(times):
            source.get()

    def attribute(times: int) -> None:
        for _ in range(times):
            holder.token  # noqa: B018 - what is measured

    taken, reference = _in_turn(get, attribute, 2000)
    return _row(
        "cached token, threads",
        f"{taken:.2f} us",
        f"an attribute: {reference:.3f} us",
        f"{taken / reference:.0f}",
        "2 us",
    )


async def _cached_in_a_loop() -> dict[str, object]:
    async def issue(_: TokenRequest, __: float) -> Arrival:
        return arrival(token(3600, 1800), elapsed())

    tokens = Tokens(issue, seconds, lambda: arrival(token(), 0.0).caller)
    source = tokens.source(REQUEST, keep_fresh=False)
    holder = _Holder(await source.get(timeout=1.0))

    async def attribute() -> IssuedToken:
        return holder.token

    taken, references = [], []
    for _ in range(CHUNKS):
        began = time.thread_time()
        for _ in range(2000):
            await source.get()
        between = time.thread_time()
        for _ in range(2000):
            await attribute()
        taken.append((between - began) / 2000 * 1e6)
        references.append((time.thread_time() - between) / 2000 * 1e6)
    tokens.close()
    cost, reference = statistics.median(taken), statistics.median(references)
    return _row(
        "cached token, asyncio",
        f"{cost:.2f} us",
        f"a coroutine that returns an attribute: {reference:.3f} us",
        f"{cost / reference:.1f}",
        "5 us",
    )


def _in_turn(work: Callable[[int], None], reference: Callable[[int], None], times: int) -> tuple[float, float]:
    """Return the medians of both in microseconds for each time."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(CHUNKS):
        for each, found in zip((work, reference), taken, strict=True):
            began = time.thread_time()
            each(times)
            found.append((time.thread_time() - began) / times * 1e6)
    return statistics.median(taken[0]), statistics.median(taken[1])


# --- The first request


def _first_in_tasks(deployment: Deployment) -> dict[str, object]:
    workload = deployment.authority.workload(SETTLER)

    async def ask() -> float:
        async with IssuerClient(deployment.issuer.address, workload_api=workload.socket) as client:
            source = client.tokens_for(LEDGER, SCOPES)
            began = time.perf_counter()
            await asyncio.gather(*(source.get() for _ in range(TASKS)))
            return time.perf_counter() - began

    line = len(deployment.issuer.log())
    taken = asyncio.run(ask())
    return _first_row(deployment, line, f"{TASKS:,} first requests at once, tasks", taken)


def _first_in_threads(deployment: Deployment) -> dict[str, object]:
    workload = deployment.authority.workload(SETTLER)
    line = len(deployment.issuer.log())
    with (
        SyncIssuerClient(deployment.issuer.address, workload_api=workload.socket) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        source = client.tokens_for(LEDGER, SCOPES)
        began = time.perf_counter()
        for asked in [pool.submit(source.get) for _ in range(THREADS)]:
            asked.result()
        taken = time.perf_counter() - began
    return _first_row(deployment, line, f"{THREADS:,} first requests at once, threads", taken)


def _first_row(deployment: Deployment, line: int, measured: str, taken: float) -> dict[str, object]:
    deployment.issuer.wait_for("rpc", after=line)
    calls = sum(entry.get("event") == "rpc" for entry in deployment.issuer.log()[line:])
    return _row(measured, f"{calls} RPC", f"all answered in {taken:.2f} s", "", "1 RPC")


# --- Renewal


def _spread() -> dict[str, object]:
    """Simulate: with real tokens of five minutes it would take ten."""
    minutes_10, found = 600, []
    for _ in range(5):
        simulation = Simulation(keys=1000, lifetime=LIFETIME)
        simulation.cache._spread._position = random.random()  # noqa: S311, SLF001 - where a process happens to begin
        simulation.run(minutes_10)
        found.append(largest_second(simulation.begun, minutes_10))
    return _row(
        "1,000 keys renewed for 10 minutes (simulated)",
        f"largest second {max(found):.2f} of the mean",
        f"best of {len(found)} random starts: {min(found):.2f}",
        "",
        "3",
    )


def _outage(*, hangs: bool) -> dict[str, object]:
    """Simulate: an outage that begins the moment before a token would be renewed, for 50 places of it in its span."""
    used = refused = 0
    for position in starts(50):
        undisturbed = Simulation(1, LIFETIME)
        undisturbed.cache._spread._position = position  # noqa: SLF001 - as above
        undisturbed.run(0.5)
        begins = undisturbed.cache.next_due()
        simulation = Simulation(1, LIFETIME, Outage(begins, begins + 0.8 * LIFETIME, hangs), use_every=0.1)
        simulation.cache._spread._position = position  # noqa: SLF001 - as above
        simulation.run(begins + 0.8 * LIFETIME + 60)
        used, refused = used + simulation.used, refused + simulation.refused
    kind = "hangs" if hangs else "is unreachable"
    return _row(
        f"the issuer {kind} for 80 % of a life (simulated)", f"{refused} failed", f"of {used:,} requests", "", "0"
    )


# --- Verification


def _verification(deployment: Deployment) -> dict[str, object]:
    workload = deployment.authority.workload(SETTLER)
    with SyncIssuerClient(deployment.issuer.address, workload_api=workload.socket) as client:
        text = client.issue_token(LEDGER, SCOPES).token.reveal()
        key, signature, signed = _bare(text, client.get_key_set().jwks)
        algorithm = ec.ECDSA(SHA256())
        with TokenVerifier(deployment.issuer.url, LEDGER, keys=IssuerKeys(client), insecure_dev=True) as verifier:
            verifier.verify(text)

            def verify(times: int) -> None:
                for _ in range(times):
                    verifier.verify(text)

            def bare(times: int) -> None:
                for _ in range(times):
                    key.verify(signature, signed, algorithm)

            taken, reference = _in_turn(verify, bare, 100)
    return _row(
        "a token verified", f"{taken:.1f} us", f"bare ES256: {reference:.1f} us", f"{taken / reference:.2f}", "1.3"
    )


def _bare(text: str, jwks: Mapping[str, list[dict[str, str]]]) -> tuple[ec.EllipticCurvePublicKey, bytes, bytes]:
    """Return what the verification of the signature alone takes."""
    signed, _, signature = text.rpartition(".")
    raw = _decoded(signature)
    jwk = jwks["keys"][0]
    x, y = (int.from_bytes(_decoded(jwk[name]), "big") for name in ("x", "y"))
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key(), der, signed.encode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


# --- Imports


def _imports() -> list[dict[str, object]]:
    """Measure in fresh processes, with compiled files in place; by CPU time, and by the clock."""
    found: dict[str, list[list[float]]] = {name: [] for name in IMPORTED}
    for _ in range(PROCESSES):
        for name, statement in IMPORTED.items():
            found[name].append(_milliseconds_of("import grpc", statement))
    rows = []
    for name, measured in found.items():
        grpc_cpu, cpu, grpc_wall, wall = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append(
            _row(
                f"import of {name} beyond grpc",
                f"{cpu:.0f} ms CPU ({wall:.0f} by the clock)",
                f"grpc alone: {grpc_cpu:.0f} ms CPU ({grpc_wall:.0f})",
                f"{cpu / grpc_cpu:.2f}",
                "150 ms",
            )
        )
    return rows


def _milliseconds_of(first: str, second: str) -> list[float]:
    """Return CPU time of the first and of the second, then their time by the clock."""
    program = (
        "import time; now = lambda: (time.process_time(), time.perf_counter()); "
        f"a = now(); {first}; b = now(); {second}; c = now(); "
        "print(b[0] - a[0], c[0] - b[0], b[1] - a[1], c[1] - b[1])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [float(number) * 1e3 for number in ended.stdout.split()]
