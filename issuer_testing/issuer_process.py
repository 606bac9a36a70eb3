"""A real issuer as a child process: for test suites, the demo, the benchmark and ``issuer dev up``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from issuer_testing.deadline import DeadlineExceeded, wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    import signal

    from agent_client import SyncIssuerClient

START_SECONDS = 60.0
STOP_SECONDS = 20.0
ISSUER_DNS_NAME = "spiffe-issuer.workload.internal"
"""What the issuer's SPIRE entry carries as DNS name and its callers expect."""
_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")


class Identity(Protocol):
    """A workload's identity: what a real SPIRE and the embedded authority give alike."""

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID."""
        ...

    @property
    def socket(self) -> str:
        """The value for ``SPIFFE_ENDPOINT_SOCKET``."""
        ...


class IssuerDidNotStart(RuntimeError):
    """The issuer ended, or did not serve in time. The message holds what it said."""


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """What a test chooses about an issuer.

    Attributes:
        folder: Where its configuration and key live. Keep it to restart with the same key.
        policy: The policy folder or file.
        workload_api: The ``SPIFFE_ENDPOINT_SOCKET`` that gives the issuer its SVID.
        spiffe_id: Which SVID it serves with, where the socket gives several.
        federated_trust_domains: Who may call besides its own trust domain.
        insecure_dev: It serves the embedded development authority.
        options: More settings by section (``None`` takes one away), as in ``issuer.toml``.
        module: What is run as ``python -m MODULE serve``.
        arguments: More of the command line, after that.
    """

    folder: Path
    policy: Path
    workload_api: str
    spiffe_id: str | None = None
    federated_trust_domains: tuple[str, ...] = ()
    insecure_dev: bool = False
    options: Mapping[str, Mapping[str, object]] | None = None
    module: str = "issuer"
    arguments: tuple[str, ...] = ()


class IssuerProcess:
    """``issuer serve`` as a child process, on free loopback ports. It ends with this process, however that ends.

    Attributes:
        address: ``host:port`` of its gRPC listener, once started.
        url: Its ``iss``, which is also the address of its HTTP listener.
    """

    def __init__(self, settings: IssuerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = settings.folder / "issuer.log"
        self._lines: list[dict[str, Any]] = []
        self._read = 0
        self.url = f"http://127.0.0.1:{free_port()}"
        self.address = ""

    def start(self, within: float = START_SECONDS) -> Self:
        """Start, and return once it serves.

        Raises:
            IssuerDidNotStart: With its log, when it ended or was not ready ``within`` seconds.
        """
        self.spawn()
        try:
            self.address = self.wait_for("serving", within)["grpc"]
            self.wait_for("readiness", within, serving=True)
        except IssuerDidNotStart:
            self.stop()
            raise
        return self

    def spawn(self) -> None:
        """Start without waiting for anything."""
        config = self._write_config()
        guard = [sys.executable, "-I", str(_DIE_WITH_PARENT), str(os.getpid())]
        command = [*guard, sys.executable, "-m", self._settings.module, "serve", "--config", str(config)]
        if self._settings.insecure_dev:
            command.append("--insecure-dev")
        command += self._settings.arguments
        self._lines, self._read = [], 0
        # To a file: a pipe's reader would take part of the two cores that a benchmark measures on.
        self._log_file.unlink(missing_ok=True)  # workers of a killed one may still write to theirs
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)

    def client(self, workload: Identity, **options: Any) -> SyncIssuerClient:  # noqa: ANN401 - those of the client
        """Return a client of this issuer that calls as ``workload``. Close it, or use it as a context manager."""
        from agent_client import SyncIssuerClient  # noqa: PLC0415 - who only starts an issuer needs no client

        return SyncIssuerClient(
            self.address,
            workload_api=workload.socket,
            spiffe_id=workload.spiffe_id,
            issuer_dns_name=ISSUER_DNS_NAME,
            **options,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    def log(self) -> list[dict[str, Any]]:
        """Return the log lines so far; a line that is not JSON stands under ``text``."""
        with self._log_file.open("rb") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        self._lines += map(_parsed, whole.decode().splitlines())
        return list(self._lines)

    def wait_for(
        self, event: str, within: float = START_SECONDS, *, after: int = 0, **fields: object
    ) -> dict[str, Any]:
        """Wait for a log line of this event with these fields, and return it.

        Args:
            event: The event's name.
            within: Seconds to wait at most.
            after: Look only at lines past so many, for example past ``len(issuer.log())`` of a moment ago.
            fields: What else the line must have.

        Raises:
            IssuerDidNotStart: When the process ended first, or there was none ``within`` seconds.
        """
        wanted = {"event": event, **fields}
        process = self._running()

        def found_or_ended() -> tuple[dict[str, Any] | None] | None:
            ended = process.poll() is not None  # before the look at the log, which is then whole
            line = next((line for line in reversed(self.log()[after:]) if wanted.items() <= line.items()), None)
            return (line,) if line is not None or ended else None

        try:
            (line,) = wait_until(found_or_ended, what=f"the issuer says {event!r}", seconds=within)
        except DeadlineExceeded as error:
            raise IssuerDidNotStart(f"{error}. Its log:\n{self._text()}") from None
        if line is None:
            raise IssuerDidNotStart(f"waiting for {event!r} of the issuer, which ended. Its log:\n{self._text()}")
        return line

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running().send_signal(number)

    def wait(self, within: float = STOP_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        return self._running().wait(within)

    def stop(self) -> None:
        """End it gracefully, or by force after 20 s. Without effect when it has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the issuer was not started")
        return self._process

    def _text(self) -> str:
        return "\n".join(line.get("text") or json.dumps(line) for line in self.log()[-50:])

    def _write_config(self) -> Path:
        settings = self._settings
        sections: dict[str, dict[str, object]] = {
            "issuer": {"url": self.url},
            "server": {"listen": "127.0.0.1:0", "shutdown_grace": "5s"},
            "spire": {
                "socket": settings.workload_api,
                "startup_timeout": "30s",
                "federated_trust_domains": list(settings.federated_trust_domains),
            },
            "policy": {"path": str(settings.policy.absolute())},
            "keys": {"file": "keys/signing-key.pem"},
            "ledger": {"file": "ledger/ledger.sqlite3"},
            "http": {"listen": self.url.removeprefix("http://")},
            "log": {"format": "json"},
        }
        if settings.spiffe_id:
            sections["spire"]["spiffe_id"] = settings.spiffe_id
        for section, values in (settings.options or {}).items():
            merged = {**sections.get(section, {}), **values}
            sections[section] = {key: value for key, value in merged.items() if value is not None}
        settings.folder.mkdir(parents=True, exist_ok=True)
        keys = settings.folder / "keys"
        keys.mkdir(exist_ok=True, mode=0o700)
        path = settings.folder / "issuer.toml"
        path.write_text(_toml(sections), encoding="utf-8")
        return path


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value)  # strings, numbers and booleans are spelled the same


def _parsed(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"text": line.rstrip("\n")}
    return value if isinstance(value, dict) else {"text": line.rstrip("\n")}
