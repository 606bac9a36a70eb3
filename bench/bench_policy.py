"""What policy costs as it grows: load time, memory a grant, and the time of one decision. Prints JSON lines.

Each grant has two CEL conditions, one over a fact and one over the request, or none (``--conditions none``). Grants are
spread over 10,000 identities and 1,000 audiences (fewer where there are fewer grants), one pattern in ten
has a wildcard, and the requests timed are the same in every run: only the number of unrelated grants differs.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from issuer.core.caller import Caller
from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.facts import Fact
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import Intent, TokenRequest
from issuer.policy_files.directory import load_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.facts import Facts
    from issuer.core.policy import Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITIES = 10_000
AUDIENCES = 1_000
ROUNDS = 5
DECISIONS = 4_000
WILDCARD_EVERY = 10


CONDITIONS = """\
facts:
  - {name: posture, subject: caller, max_age: 1h, fields: {status: string}}
conditions:
  - {name: healthy, when: facts.posture.status == "healthy"}
"""


def policy_text(grants: int, *, conditions: bool = True) -> bytes:
    """Return a policy of so many grants."""
    audiences = "".join(
        f"  - name: https://api-{number}.example\n    application: app-{number}\n    max_ttl: 10m\n"
        "    scopes: [{name: read, risk: low}, {name: write, risk: high}]\n"
        for number in range(min(AUDIENCES, grants))
    )
    listed = "".join(_grant(number, conditions=conditions) for number in range(grants))
    return f"version: 1\n{CONDITIONS if conditions else ''}audiences:\n{audiences}grants:\n{listed}".encode()


def grant_parts(number: int) -> tuple[str, str, str]:
    """Return the folder and the service that a grant is for, and its audience."""
    identity = number % IDENTITIES
    service = "*" if number % WILDCARD_EVERY == 0 else f"svc-{identity}"
    # Within one round over the identities every audience is hit ten times; each round moves on by one.
    audience = (number + number // IDENTITIES) % AUDIENCES
    folder = f"spiffe://prod.example/ns/team-{identity % 500}-{identity}/sa"
    return folder, service, f"https://api-{audience}.example"


def _grant(number: int, *, conditions: bool) -> str:
    identity = number % IDENTITIES
    folder, service, audience = grant_parts(number)
    return (
        f"  - id: grant-{number}\n"
        f'    workloads: ["{folder}/{service}"]\n'
        f"    application: app-{identity % 100}\n"
        f"    audience: {audience}\n"
        "    scopes: [read, write]\n"
        "    max_ttl: 5m\n"
        "    expires: 2027-06-30\n"
        f"    owner: team-{identity % 500}\n" + (CONDITIONS_OF_GRANT if conditions else "")
    )


CONDITIONS_OF_GRANT = """\
    requires: [healthy]
    when: request.intent.ticket.startsWith("CHG-")
"""


def requests() -> list[tuple[Caller, TokenRequest]]:
    """Return requests that every size of policy grants: grants 0 to 99 are in all of them."""
    return [_request(number) for number in range(100)]


def _request(number: int) -> tuple[Caller, TokenRequest]:
    spiffe_id = SpiffeId.parse(f"spiffe://prod.example/ns/team-{number % 500}-{number}/sa/svc-{number}")
    caller = Caller(spiffe_id, bytes(32), number, NOW + timedelta(hours=1))
    intent = Intent(ticket=f"CHG-{number}")
    return caller, TokenRequest(audience=f"https://api-{number}.example", scopes=("read", "write"), intent=intent)


def facts_of(caller: Caller) -> Facts:
    """Return what is told of a caller."""
    begins, ends = NOW - timedelta(minutes=1), NOW + timedelta(minutes=59)
    fact = Fact("posture", str(caller.spiffe_id), {"status": "healthy"}, "bench", begins, ends)
    return {fact.key: fact}


def loaded(text: bytes) -> tuple[Policy, float, float]:
    """Return the policy, the seconds that loading took, and the bytes it holds (measured in a second load)."""
    files = [PolicyFile("policy.yaml", text)]
    start = time.perf_counter()
    policy = parse_policy(files)
    seconds = time.perf_counter() - start
    del policy
    gc.collect()
    tracemalloc.start()
    policy = parse_policy(files)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return policy, seconds, held


def resident_bytes() -> int:
    """Return the memory that this process holds now (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def resident_growth(path: str) -> int:
    """Return by how much loading a file makes this process grow, garbage and fragmentation included."""
    before = resident_bytes()
    policy = load_policy(Path(path))
    gc.collect()
    return resident_bytes() - before if policy.grants else 0


def resident_in_fresh_process(text: bytes) -> int:
    """Return :func:`resident_growth` of a process that has loaded nothing before."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(text)
        file.flush()
        command = [sys.executable, __file__, "--resident-growth", file.name]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def microseconds(action: Callable[[int], object], count: int) -> list[float]:
    """Return the time of each of ``count`` calls."""
    times = []
    for number in range(count):
        start = time.perf_counter_ns()
        action(number)
        times.append((time.perf_counter_ns() - start) / 1000)
    return times


def measured(grants: int, *, conditions: bool = True) -> dict[str, object]:
    """Return the figures for one size of policy."""
    text = policy_text(grants, conditions=conditions)
    policy, seconds, held = loaded(text)
    asked = [(caller, request, facts_of(caller)) for caller, request in requests()]

    def one(number: int) -> None:
        caller, request, facts = asked[number % len(asked)]
        if not isinstance(decide(policy, caller, request, facts, NOW), Grant):
            raise SystemExit("a request of the benchmark was denied")

    rounds = [sorted(microseconds(one, DECISIONS)) for _ in range(ROUNDS)]
    return {
        "bench": "policy",
        "conditions": 2 if conditions else 0,
        "grants": grants,
        "file_megabytes": round(len(text) / 1e6, 2),
        "load_seconds": round(seconds, 3),
        "bytes_per_grant": round(held / grants),
        "resident_bytes_per_grant": round(resident_in_fresh_process(text) / grants),
        "decide_p50_us": round(statistics.median(times[len(times) // 2] for times in rounds), 2),
        "decide_p99_us": round(statistics.median(times[len(times) * 99 // 100] for times in rounds), 2),
    }


def signature_us() -> float:
    """Return the median time of a bare ES256 signature, the yardstick between machines."""
    key = ec.generate_private_key(ec.SECP256R1())
    return statistics.median(microseconds(lambda _: key.sign(b"x" * 400, ec.ECDSA(hashes.SHA256())), 2_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grants", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--conditions", choices=["both", "two", "none"], default="both")
    parser.add_argument("--resident-growth", metavar="FILE", help="print only how much loading FILE takes, in bytes")
    options = parser.parse_args()
    if options.resident_growth:
        sys.stdout.write(f"{resident_growth(options.resident_growth)}\n")
        return
    sizes = options.grants
    signature = signature_us()
    for conditions in {"both": (True, False), "two": (True,), "none": (False,)}[options.conditions]:
        report([measured(size, conditions=conditions) for size in sizes], signature)


def report(results: list[dict[str, object]], signature: float) -> None:
    for result in results:
        result["es256_us"] = round(signature, 2)
        result["decide_ratio_to_first"] = round(
            float(str(result["decide_p50_us"])) / float(str(results[0]["decide_p50_us"])), 3
        )
        sys.stdout.write(f"{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
