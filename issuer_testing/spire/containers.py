"""SPIRE in containers, by testcontainers.

Both programs share this host's network, so that the server listens on the loopback only, and a folder that has the same
name inside. The agent also shares the process ids, so that it attests this host's processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from issuer_testing.free_port import free_port
from issuer_testing.spire import loopback
from issuer_testing.spire.abandoned_containers import LABEL, remove_abandoned
from issuer_testing.spire.binaries import SpireBinaries, UnusableSpire, is_static
from issuer_testing.spire.environment import Spire
from issuer_testing.spire.finding import find_binaries
from issuer_testing.spire.go_build import build_spire
from issuer_testing.spire.images import SpireImages, engine, local_images, official_images
from issuer_testing.spire.run_folder import RunFolder
from issuer_testing.spire.server_commands import SpireRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from issuer_testing.spire.settings import SpireSettings

_SWEEPER_SECONDS = 30.0


class ContainerPrograms:
    """``spire-server`` and ``spire-agent`` as two containers, which are removed with this process however it ends."""

    kind = "containers"

    def __init__(self, images: SpireImages, trust_domain: str) -> None:
        self._images = {"server": images.server, "agent": images.agent}
        self._run_folder = RunFolder()
        self.folder: Path = self._run_folder.path
        self._trust_domain, self._port = trust_domain, 0
        self._running: dict[str, DockerContainer] = {}
        # Removes our containers when its standard input ends: by stop(), or because this process died.
        self._sweeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "issuer_testing.spire.abandoned_containers", str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def start_server(self) -> None:
        """Start the server on a free port."""
        self._port = free_port()
        self._start("server")

    def start_agent(self) -> None:
        """Start the agent, with a view of this host's processes."""
        # AppArmor's profile for containers, where there is one, hides /proc/<pid>/exe of everything outside.
        self._start("agent", pid_mode="host", cap_add=["SYS_PTRACE"], security_opt=["apparmor=unconfined"])

    def kill_agent(self) -> None:
        """Kill the agent with SIGKILL."""
        self._remove("agent")

    def server_command(self, *arguments: str) -> str:
        """Run a ``spire-server`` subcommand inside the server's container."""
        return self._output("server", *arguments)

    def agent_command(self, *arguments: str) -> str:
        """Run a ``spire-agent`` subcommand inside the agent's container."""
        return self._output("agent", *arguments)

    def ended(self) -> str | None:
        """Return which container ended."""
        for name, container in self._running.items():
            container.reload()
            if container.status in {"exited", "dead"}:
                return f"the container of spire-{name} ended"
        return None

    def logs(self) -> str:
        """Return what both programs wrote; of one that was killed, what it wrote until then."""
        texts = []
        for name in ("server", "agent"):
            kept = self.folder / f"{name}.log"
            before = kept.read_text(encoding="utf-8") if kept.exists() else ""
            texts.append(f"--- {name}.log\n{before}{self._container_log(name)}")
        return "\n".join(texts)

    def stop(self) -> None:
        """Remove both containers and the folder."""
        for name in ("agent", "server"):
            if name in self._running:
                self._remove(name)
        if self._sweeper.stdin:
            self._sweeper.stdin.close()
        self._sweeper.wait(_SWEEPER_SECONDS)
        self._run_folder.remove()

    def _start(self, name: str, **more: object) -> None:
        if name in self._running:
            self._remove(name)
        container = DockerContainer(self._images[name])
        container.with_envs(**loopback.environment(self._trust_domain, str(self.folder), self._port))
        container.with_volume_mapping(self.folder, str(self.folder), "rw")
        container.with_command(["-expandEnv", "-config", str(self.folder / f"{name}.conf")])
        # The owner of the folder is us, so that we can read, and at the end remove, what is written there.
        owner = f"{os.getuid()}:{os.getgid()}"
        labels = {LABEL: str(self.folder)}
        container.with_kwargs(network_mode="host", user=owner, labels=labels, **more)
        with _without_ryuk():
            container.start()
        self._running[name] = container

    def _remove(self, name: str) -> None:
        log = self._container_log(name)
        with (self.folder / f"{name}.log").open("a", encoding="utf-8") as kept:
            kept.write(log)
        self._running.pop(name).stop()

    def _container_log(self, name: str) -> str:
        if name not in self._running:
            return ""
        return bytes(self._running[name].get_wrapped_container().logs()).decode(errors="replace")

    def _output(self, name: str, *arguments: str) -> str:
        command = [f"/opt/spire/bin/spire-{name}", *arguments, "-socketPath", str(self.folder / f"{name}.sock")]
        try:
            code, (out, err) = self._running[name].get_wrapped_container().exec_run(command, demux=True)
        except APIError as error:  # the container has ended
            raise SpireRefused(f"spire-{name} {arguments[0]}: {error.explanation}") from error
        if code != 0:
            raise SpireRefused(f"spire-{name} {arguments[0]}: {(err or out or b'').decode(errors='replace').strip()}")
        return (out or b"").decode()


def start_containers(
    trust_domain: str, settings: SpireSettings, say: Callable[[str], None], *, may_build: bool
) -> Spire | None:
    """Start SPIRE in containers; ``None`` where there is no engine or no image, which ``say`` was told.

    Args:
        trust_domain: The name without scheme.
        settings: Where a SPIRE for local images may be.
        say: Called with one line of progress at a time.
        may_build: Whether images may be made from programs, and those built, where the official ones cannot be pulled.
    """
    client = engine(say)
    if client is None:
        return None
    try:
        remove_abandoned(client)
        images = official_images(client, say)
        if images is None and may_build:
            images = local_images(client, _static_binaries(settings, say), say)
    except (DockerException, UnusableSpire) as error:
        say(f"Docker: {error}")
        return None
    finally:
        client.close()
    return Spire.start(ContainerPrograms(images, trust_domain), trust_domain, images.origin, say) if images else None


def _static_binaries(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries:
    """Return programs that run in an image without a C library: those at hand if they do, else ones built here."""
    found = find_binaries(settings, say)
    if found and is_static(found.server) and is_static(found.agent):
        return found
    if found:
        say(f"Docker: {found.origin} is not statically linked, so no image can be made of it")
    return build_spire(settings, say)


@contextmanager
def _without_ryuk() -> Iterator[None]:
    """Keep testcontainers from starting Ryuk, one more image to pull: our sweeper does its work."""
    before = testcontainers_config.ryuk_disabled
    testcontainers_config.ryuk_disabled = True
    try:
        yield
    finally:
        testcontainers_config.ryuk_disabled = before
