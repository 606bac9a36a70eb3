"""SPIRE as container images: the official ones, or ones that hold nothing but what was built here."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker
import urllib3
from docker.errors import DockerException, ImageNotFound
from docker.utils import kwargs_from_env

from issuer_testing.spire.binaries import VERSION, SpireBinaries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OFFICIAL = "ghcr.io/spiffe"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
LOCAL = "spiffe-issuer-dev"
# A registry that cannot be reached says so at once; a slow one is not worth more than this, as building is there too.
PULL_SECONDS = 180.0
ENGINE_SECONDS = 60
# As in the official images, so that both are started alike.
DOCKERFILE = """\
FROM scratch
COPY {program} /opt/spire/bin/{program}
ENTRYPOINT ["/opt/spire/bin/{program}", "run"]
"""


@dataclass(frozen=True, slots=True)
class SpireImages:
    """The names of two images that the engine has, and where they come from in words."""

    server: str
    agent: str
    origin: str


def engine(say: Callable[[str], None]) -> docker.DockerClient | None:
    """Return a client of this host's Docker engine; ``None`` where none answers, or it is another host's."""
    where = kwargs_from_env().get("base_url") or DEFAULT_ENGINE
    if not where.startswith("unix://"):
        say(f"Docker: the engine at {where} may be another host's: an agent there could not attest our processes")
        return None
    try:
        with socket.socket(socket.AF_UNIX) as probe:  # for the client leaks its socket when nobody answers
            probe.connect(where.removeprefix("unix://"))
        return docker.from_env(timeout=ENGINE_SECONDS)
    except (OSError, DockerException) as error:
        say(f"Docker: no engine answers at {where} ({str(error).splitlines()[0][:160]})")
        return None


def official_images(client: docker.DockerClient, say: Callable[[str], None]) -> SpireImages | None:
    """Return SPIRE's own images, pulled where the engine lacks them; ``None`` where they cannot be pulled in time."""
    deadline = time.monotonic() + PULL_SECONDS
    names = {program: f"{OFFICIAL}/{program}:{VERSION}" for program in ("spire-server", "spire-agent")}
    for name in names.values():
        try:
            _pull(client, name, deadline, say)
        except (DockerException, urllib3.exceptions.HTTPError, OSError) as error:
            say(f"Docker: {name} cannot be pulled ({str(error)[:200]})")
            return None
    return SpireImages(names["spire-server"], names["spire-agent"], f"the official images ({OFFICIAL}, {VERSION})")


def local_images(client: docker.DockerClient, binaries: SpireBinaries, say: Callable[[str], None]) -> SpireImages:
    """Return images made of static programs, made now where the engine lacks them.

    Raises:
        DockerException: The engine cannot make them.
    """
    server, agent = (
        _local_image(client, program, binaries.version, say) for program in (binaries.server, binaries.agent)
    )
    return SpireImages(server, agent, f"images made of what is in {binaries.origin}")


def _pull(client: docker.DockerClient, name: str, deadline: float, say: Callable[[str], None]) -> None:
    if _has(client, name):
        return
    say(f"Docker: pulling {name}")
    repository, _, tag = name.rpartition(":")
    for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
        if "error" in event:
            raise DockerException(event["error"])
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {PULL_SECONDS:g} s")


def _local_image(client: docker.DockerClient, program: Path, version: str, say: Callable[[str], None]) -> str:
    """Return the image of one program, named by its content: another build of the same version is another image."""
    with program.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = f"{LOCAL}/{program.name}:{version}-{digest[:12]}"
    if not _has(client, name):
        say(f"Docker: making the image {name}")
        with tempfile.TemporaryFile() as context:
            _write_context(context, program)
            client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True)
    return name


def _write_context(context: io.BufferedRandom | tempfile._TemporaryFileWrapper[bytes], program: Path) -> None:
    dockerfile = DOCKERFILE.format(program=program.name).encode()
    with tarfile.open(fileobj=context, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        archive.addfile(entry, io.BytesIO(dockerfile))
        archive.add(program, program.name)
    context.seek(0)


def _has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
