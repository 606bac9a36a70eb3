"""Programs that make gRPC calls as they are told, each with another implementation's client, and how to build them.

A program gets one JSON object a line and answers each with one. What it is told: ``method``, ``messages`` (base64),
``metadata``, ``gzip``; ``timeout``, the call's deadline, and ``cancel``, after how long it is cancelled, in seconds;
``take`` that many answers, ``rest`` for so long without reading, and cancel. With ``lanes`` and ``seconds`` it makes
that call over and over, so many at once, and answers with a ``tally``. With ``flood`` it begins so many and cancels
each at once. What it answers of a call: ``code``, ``message``, ``answers``, and of its trailers ``text`` (``x-a``),
``binary`` (``x-detail-bin``) and ``status`` (``grpc-status-details-bin``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings
from support.transport_server import DEADLINE, DNS_NAME, SERVICE, TransportServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TESTS = Path(__file__).parents[1]
INTEROP = TESTS / "interop"
BUILD_SECONDS = 280


@dataclass(frozen=True)
class Outcome:
    """What became of a call, or of a load."""

    code: int = 0
    message: str = ""
    answers: list[bytes] = field(default_factory=list)
    text: str = ""
    binary: bytes = b""
    status: bytes = b""
    tally: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: str) -> Self:
        found = {name: value for name, value in json.loads(line).items() if value}
        for name in ("binary", "status"):
            found[name] = b64decode(found.get(name, ""))
        return cls(**{**found, "answers": list(map(b64decode, found.get("answers", ())))})


class ForeignClient:
    """A program with one connection.

    Args:
        command: The program.
        server: Whom it calls.
        folder: For its certificate.
        keepalive: After so many seconds of silence it asks the server whether it is there; 0 never.
    """

    def __init__(self, command: Sequence[str], server: TransportServer, folder: Path, keepalive: int = 0) -> None:
        svid = server.authority.issue("spiffe://conformance.test/foreign")
        files = {"roots": pem_bundle([server.authority.root]), "chain": svid.chain_pem(), "key": svid.key_pem()}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        arguments = [server.address, DNS_NAME, *(str(folder / name) for name in files), str(keepalive)]
        self._process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS
        )

    def __enter__(self) -> Self:
        """Have it make its connection; on a busy machine a JVM takes seconds to find its feet."""
        assert self.call("Echo", b"", timeout=60).code == 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(20)
        self._process.stdout.close()
        assert code == 0

    def begin(self, method: str, *messages: bytes, **options: Any) -> None:
        """Tell it to make a call, or many; a method without a slash is one of the conformance service."""
        assert self._process.stdin is not None
        wanted = {
            "method": method if "/" in method else f"/{SERVICE}/{method}",
            "messages": [b64encode(message).decode() for message in messages],
            "timeout": DEADLINE,
            **options,
        }
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()

    def end(self) -> Outcome:
        """Return what became of what was begun first."""
        assert self._process.stdout is not None
        return Outcome.from_line(self._process.stdout.readline())

    def call(self, method: str, *messages: bytes, **options: Any) -> Outcome:
        self.begin(method, *messages, **options)
        return self.end()


def grpcio_program(_folder: Path) -> list[str]:
    return [sys.executable, "-m", "support.grpcio_call"]


def go_program(folder: Path) -> list[str]:
    go = find_go(SpireSettings.from_environment(), print)
    _run([str(go), "build", "-o", str(folder / "call"), "."], INTEROP / "go_grpc")
    return [str(folder / "call")]


def node_program(folder: Path) -> list[str]:
    """The program beside its dependencies, whose hashes package-lock.json pins. npm keeps them in its own cache."""
    shutil.copytree(INTEROP / "node_grpc", folder, dirs_exist_ok=True)
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], folder)
    return ["node", str(folder / "call.mjs")]


def java_program(folder: Path) -> list[str]:
    """The program beside its dependencies, whose hashes SHA256SUMS pins. Maven keeps them in its own repository."""
    source, jars = INTEROP / "java_grpc", folder / "jars"
    _run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"], source)
    pinned = set((source / "SHA256SUMS").read_text().splitlines())
    found = {f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in jars.iterdir()}
    assert found == pinned, "what Maven fetched is not what is pinned"
    _run(["javac", "-d", str(folder), "-cp", f"{jars}/*", str(source / "Call.java")], folder)
    # The smallest machine that does: it is started for each test.
    return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}:{jars}/*", "Call"]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


PROGRAMS: dict[str, Callable[[Path], list[str]]] = {
    "grpcio": grpcio_program,
    "go": go_program,
    "node": node_program,
    "java": java_program,
}
