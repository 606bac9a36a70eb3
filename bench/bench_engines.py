"""Other policy engines on the same grants and the same requests, each by the fastest interface that it documents.

- **Cedar**, through ``cedarpy``: a policy set that is parsed once; one ``permit`` a grant with the same two conditions;
  a wildcard is a parent of the caller. Read and write are two actions, asked in one batch.
- **OPA**, as a Go library: the grants are data, looked up by identity and audience; the query is prepared once and
  inputs are parsed before the clock runs. Needs Go; built from the pinned ``bench/opa/go.mod``.

Neither of them computes a lifetime, limits, or says why it refused; ours does in the time shown.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bench_policy import grant_parts, microseconds, requests, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 5.0
"""How long decisions of one engine at one size are timed."""
_OPA = Path(__file__).parent / "opa"


def measure_cedar(grants: int) -> dict[str, object]:
    """Return the figures of Cedar."""
    import cedarpy  # noqa: PLC0415 - only this needs it

    text = "\n".join(map(_cedar_policy, range(grants)))
    before, started = resident_bytes(), time.perf_counter()
    policies = cedarpy.PolicySet.from_str(text)
    loaded, held = time.perf_counter() - started, resident_bytes() - before
    asked = [_cedar_request(caller, audience, ticket) for caller, audience, ticket in _asked()]

    def one(number: int) -> None:
        batch, entities = asked[number % len(asked)]
        if not all(result.allowed for result in cedarpy.is_authorized_batch(batch, policies, entities)):
            raise SystemExit("Cedar denied a request of the benchmark")

    return _figures("Cedar", grants, loaded, held, _timed(one))


def _cedar_policy(number: int) -> str:
    folder, service, audience = grant_parts(number)
    who = f'principal in Folder::"{folder}"' if service == "*" else f'principal == Workload::"{folder}/{service}"'
    return (
        f'permit({who}, action in [Action::"read", Action::"write"], resource == Api::"{audience}") '
        'when { context.posture == "healthy" && context.ticket like "CHG-*" };'
    )


def _cedar_request(caller: str, audience: str, ticket: str) -> tuple[list[dict[str, Any]], Any]:
    import cedarpy  # noqa: PLC0415

    workload = {"type": "Workload", "id": caller}
    context = {"posture": "healthy", "ticket": ticket}
    batch = [
        {
            "principal": workload,
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Api", "id": audience},
            "context": context,
        }
        for action in ("read", "write")
    ]
    folder = {"uid": {"type": "Folder", "id": caller.rpartition("/")[0]}, "attrs": {}, "parents": []}
    entities = [{"uid": workload, "attrs": {}, "parents": [folder["uid"]]}, folder]
    return batch, cedarpy.Entities.from_json_str(json.dumps(entities))


def measure_opa(grants: int) -> dict[str, object]:
    """Return the figures of OPA, or why there are none."""
    program = _opa_program()
    by_identity: dict[str, dict[str, list[dict[str, object]]]] = {}
    for number in range(grants):
        folder, service, audience = grant_parts(number)
        who = f"{folder}/*" if service == "*" else f"{folder}/{service}"
        by_identity.setdefault(who, {}).setdefault(audience, []).append({"scopes": ["read", "write"]})
    asked = [
        {
            "caller": caller,
            "folder": f"{caller.rpartition('/')[0]}/*",
            "audience": audience,
            "posture": "healthy",
            "ticket": ticket,
            "scopes": ["read", "write"],
        }
        for caller, audience, ticket in _asked()
    ]
    document = json.dumps({"data": {"grants": by_identity}, "requests": asked, "seconds": SECONDS})
    run = subprocess.run([program], input=document, capture_output=True, text=True, check=True)
    values = json.loads(run.stdout)
    return {"engine": "OPA", "grants": grants, **values}


def _opa_program() -> Path:
    program = _OPA.parent / "results" / "opa"
    go = shutil.which("go")
    if go is None:
        raise LookupError("OPA needs Go to be built, and there is none here")
    subprocess.run([go, "build", "-mod=readonly", "-o", program, "."], cwd=_OPA, check=True)
    return program


def _asked() -> list[tuple[str, str, str]]:
    return [
        (str(caller.spiffe_id), request.audience, str(request.intent and request.intent.ticket))
        for caller, request in requests()
    ]


def _timed(action: Callable[[int], object]) -> list[float]:
    """Return the time of each call, for so long as measurements take; one call at least."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        times += microseconds(action, 1 if not times or times[-1] > 10_000 else 100)  # noqa: PLR2004 - 10 ms
    return sorted(times)


def _figures(engine: str, grants: int, loaded: float, held: int, times: list[float]) -> dict[str, object]:
    return {
        "engine": engine,
        "grants": grants,
        "load_seconds": round(loaded, 3),
        "held_bytes": held,
        "decide_p50_us": round(statistics.median(times), 2),
        "decide_p99_us": round(times[len(times) * 99 // 100], 2),
    }
