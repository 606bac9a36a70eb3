"""SPIRE as processes of this host."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from issuer_testing.free_port import free_port
from issuer_testing.spire import loopback
from issuer_testing.spire.guarded_process import GuardedProcess
from issuer_testing.spire.run_folder import RunFolder
from issuer_testing.spire.server_commands import SpireRefused

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_testing.spire.binaries import SpireBinaries

COMMAND_SECONDS = 30.0


class HostPrograms:
    """``spire-server`` and ``spire-agent`` as child processes, which die with this process however it ends."""

    kind = "host processes"

    def __init__(self, binaries: SpireBinaries, trust_domain: str) -> None:
        self._binaries = binaries
        self._run_folder = RunFolder()
        self.folder: Path = self._run_folder.path
        self._trust_domain, self._port = trust_domain, 0
        self._running: dict[str, GuardedProcess] = {}

    @property
    def server_address(self) -> str:
        """``host:port`` of the running server's API for agents."""
        return f"{loopback.ADDRESS}:{self._port}"

    @property
    def server_pid(self) -> int:
        """The process id of the running server's guard; the server is its child."""
        return self._running["server"].pid

    def start_server(self) -> None:
        """Start the server on a free port."""
        self._port = free_port()
        self._start("server", self._binaries.server)

    def start_agent(self) -> None:
        """Start the agent."""
        self._start("agent", self._binaries.agent)

    def kill_agent(self) -> None:
        """Kill the agent with SIGKILL."""
        self._running.pop("agent").kill()

    def server_command(self, *arguments: str) -> str:
        """Run a ``spire-server`` subcommand."""
        return _output([str(self._binaries.server), *arguments, "-socketPath", str(self.folder / "server.sock")])

    def agent_command(self, *arguments: str) -> str:
        """Run a ``spire-agent`` subcommand."""
        return _output([str(self._binaries.agent), *arguments, "-socketPath", str(self.folder / "agent.sock")])

    def ended(self) -> str | None:
        """Return which program ended."""
        for name, process in self._running.items():
            if process.exit_code is not None:
                return f"spire-{name} ended with exit code {process.exit_code}"
        return None

    def logs(self) -> str:
        """Return what both programs wrote."""
        files = sorted(self.folder.glob("*.log"), reverse=True)  # the agent's last, for it is the likelier one
        return "\n".join(f"--- {file.name}\n{file.read_text(encoding='utf-8', errors='replace')}" for file in files)

    def stop(self) -> None:
        """Stop the agent, then the server, and remove the folder."""
        for name in ("agent", "server"):
            if name in self._running:
                self._running.pop(name).stop()
        self._run_folder.remove()

    def _start(self, name: str, program: Path) -> None:
        self._running[name] = GuardedProcess(
            [str(program), "run", "-expandEnv", "-config", str(self.folder / f"{name}.conf")],
            folder=self.folder,
            log_file=self.folder / f"{name}.log",
            environment=loopback.environment(self._trust_domain, str(self.folder), self._port),
        )


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, env={})
    except subprocess.TimeoutExpired as late:
        raise SpireRefused(f"{command[0]} {command[1]}: no answer within {COMMAND_SECONDS:g} s") from late
    if done.returncode != 0:
        raise SpireRefused(f"{command[0]} {command[1]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
