"""What status lists cost: building and signing them, marking after a restart, serving one, and an entry at issuance."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support.ledgers import group_commit, record

from bench.process_cpu import cpu_seconds
from issuer.core.metadata import ServerMetadata
from issuer.core.status_index import BLOCK_SIZE, LIST_SIZE, BlocksTaken, StatusIndex
from issuer.core.status_list import STATUS_LIST_TYPE, ListTerms, StatusList, status_list_payload
from issuer.core.token import compact_token, signing_input
from issuer.ledger.reading import LedgerReader
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ledger.status_marks import entries_of_tokens
from issuer.public_http.process import PublicHttpProcess
from issuer.public_http.settings import PublicHttpSettings
from issuer.signing.es256 import Es256Signer
from issuer.status_entries import StatusEntries
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRIES = 1_000_000
REVOKED = 1_000_000
"""Half of them is the worst that compression can meet."""
TOKENS = 100_000
CONNECTIONS = 8
RUNS = 3
SERVE_SECONDS = 2.0
ISSUER = "https://issuer.example"
SIGNER = Es256Signer(ec.generate_private_key(ec.SECP256R1()))


def measure_status(folder: Path) -> list[dict[str, object]]:
    """Return each figure as a row."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return [*_building(), *asyncio.run(_in_a_ledger(folder / "ledger.sqlite3")), *_serving()]


def _building() -> list[dict[str, object]]:
    everything, half = range(ENTRIES), sorted(secrets.SystemRandom().sample(range(ENTRIES), ENTRIES // 2))
    size = -(-ENTRIES // 8) * 8
    own = [_seconds(lambda: [_signed(LIST_SIZE, half[: LIST_SIZE // 2]) for _ in range(-(-ENTRIES // LIST_SIZE))])]
    return [
        _row(f"one list of {ENTRIES:,} entries, all of them revoked", [_seconds(lambda: _signed(size, everything))]),
        _row(f"one list of {ENTRIES:,} entries, half of them revoked", [_seconds(lambda: _signed(size, half))]),
        _row(f"{-(-ENTRIES // LIST_SIZE)} lists of {LIST_SIZE:,} entries, our own size, half of them revoked", own),
        _row("one list of ours signed again, unchanged", [_again_seconds()]),
    ]


def _signed(size: int, revoked: Sequence[int]) -> str:
    listed = StatusList(size)
    listed.invalidate(index for index in revoked if index < size)
    return _text(listed)


def _text(listed: StatusList) -> str:
    terms = ListTerms(ISSUER, f"{ISSUER}/status-lists/1", f"{ISSUER}/status-lists", 1_800_000_000, 600, 30)
    to_sign = signing_input(SIGNER.algorithm, SIGNER.key_id, status_list_payload(listed, terms), STATUS_LIST_TYPE)
    return compact_token(to_sign, SIGNER.sign(to_sign)).reveal()


def _again_seconds() -> float:
    listed = StatusList(LIST_SIZE)
    listed.invalidate(range(0, LIST_SIZE, 3))
    _text(listed)
    return _seconds(lambda: [_text(listed) for _ in range(100)]) / 100


async def _in_a_ledger(file: Path) -> list[dict[str, object]]:
    blocks = BlocksTaken()
    ledger = group_commit(SqliteLedger(file), blocks=blocks, max_wait=timedelta(seconds=60), max_waiting=10**6)
    await ledger.open()
    entries = StatusEntries(ledger=ledger, blocks=blocks, clock=SystemClock(), order=SystemRandom())
    now = SystemClock().now()
    end = int(now.timestamp()) + 300
    started = time.perf_counter()
    taken = [await entries.take(end, now) for _ in range(20 * BLOCK_SIZE)]
    taking = (time.perf_counter() - started) / len(taken)
    list_number = StatusIndex.of_number(taken[0]).list_number
    for start in range(0, TOKENS, 10_000):
        numbers = (StatusIndex(list_number, index).number for index in range(start, start + 10_000))
        await ledger.write(*(record(token_id=f"t{number}", status=number) for number in numbers))
    ids = frozenset(f"t{StatusIndex(list_number, index).number}" for index in range(TOKENS))
    reader = LedgerReader.sqlite(file)
    found: set[int] = set()
    marking = _seconds(lambda: found.update(entries_of_tokens(reader, ids, int(now.timestamp()))))
    await ledger.close()
    assert len(found) == TOKENS  # noqa: S101 - a measurement of anything else would be none
    return [
        _row("an entry at issuance, blocks and their commits included", [taking]),
        _row(f"finding the entries of {TOKENS:,} revoked tokens in the ledger", [marking]),
    ]


def _serving() -> list[dict[str, object]]:
    metadata = ServerMetadata("http://127.0.0.1")
    http = PublicHttpProcess(
        PublicHttpSettings(listen="127.0.0.1:0"),
        metadata=metadata,
        jwks=SIGNER.public_keys(),
        log=structlog.get_logger(),
    )
    http.start()
    try:
        http.show_list("few", _signed(LIST_SIZE, range(0, LIST_SIZE, 1000)), 30)
        http.show_list("half", _signed(LIST_SIZE, secrets.SystemRandom().sample(range(LIST_SIZE), LIST_SIZE // 2)), 30)
        paths = {"static answer": "/livez", "list, few revoked": "/status-lists/few", "half": "/status-lists/half"}
        time.sleep(0.5)  # until the other process has them
        rounds = [{name: _served(http, path) for name, path in paths.items()} for _ in range(RUNS)]  # in turn
    finally:
        http.stop()
    medians = {name: [statistics.median(run[name][at] for run in rounds) for at in (0, 1)] for name in paths}
    static = medians["static answer"]
    return [
        {
            "what": f"served, {name}: {per_second:,.0f}/s, {per_second / static[0]:.2f} x static; CPU of the server",
            "us": round(cpu, 1),
            "per_second": round(per_second),
            "of_static": round(per_second / static[0], 2),
        }
        for name, (per_second, cpu) in medians.items()
    ]


def _served(http: PublicHttpProcess, path: str) -> tuple[float, float]:
    """Return answers a second, and microseconds of the server's CPU for each."""
    pid = http.pid
    assert pid is not None  # noqa: S101 - it has started
    before = cpu_seconds(pid)
    command = [sys.executable, "-m", "bench.http_load", str(http.port), path, str(CONNECTIONS), str(SERVE_SECONDS)]
    answers = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answers / SERVE_SECONDS, (cpu_seconds(pid) - before) / answers * 1e6


def _seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator] # any callable
    return time.perf_counter() - started


def _row(what: str, seconds: list[float]) -> dict[str, object]:
    return {"what": what, "us": round(min(seconds) * 1e6, 1)}
