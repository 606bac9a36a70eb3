"""Containers whose owner is gone.

As a program (``python -m issuer_testing.spire.abandoned_containers FOLDER``) it waits for the end of its standard
input, which comes when its owner stops or dies, even by ``kill -9``; then it removes the owner's containers and folder.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import docker
from docker.errors import NotFound

from issuer_testing.spire.run_folder import is_abandoned

LABEL = "io.spiffe-issuer.run-folder"
"""On each of our containers: the folder of the SPIRE that it belongs to."""


def remove_containers(client: docker.DockerClient, folder: str) -> None:
    """Remove every container of one SPIRE."""
    for container in client.containers.list(all=True, filters={"label": f"{LABEL}={folder}"}):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            continue


def remove_abandoned(client: docker.DockerClient) -> None:
    """Remove the containers of every SPIRE whose owner is gone."""
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        folder = container.labels[LABEL]
        if is_abandoned(Path(folder)):
            remove_containers(client, folder)


def main(folder: str) -> None:
    """Wait for the owner's end, then clean up after it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    client = docker.from_env()
    remove_containers(client, folder)
    client.close()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
