"""A real PostgreSQL server for tests, in a folder of its own, on a UNIX socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import psycopg

from support.eventually import eventually
from support.passable import open_to_others

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/usr/local/pgsql/bin")


class PostgresServer:
    """A server; its superuser is ``postgres``, and who can open its socket's folder is trusted.

    PostgreSQL refuses to run as root; as root the server runs as ``nobody``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._programs = _programs()
        self._user = "nobody" if os.geteuid() == 0 else None
        # Not by Popen(user=): that forks this process, whose gRPC threads do not always live through it.
        self._as_user = ["setpriv", f"--reuid={self._user}", "--regid=65534", "--clear-groups"] if self._user else []
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return self._folder

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def conninfo(self) -> str:
        """How to connect, without a database."""
        return f"host={self._folder} user=postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self._folder)]
        options = ["-c", "listen_addresses=", "-c", "max_connections=30", "-c", "shared_buffers=16MB"]
        self._process = subprocess.Popen([*self._as_user, *command, *options], stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def stop(self) -> None:
        """Stop at once; what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def signal(self, process: int, number: signal.Signals) -> None:
        """Send a signal to a process of the server."""
        os.kill(process, number)

    def new_database(self) -> str:
        """Return how to connect to a database that nobody has used."""
        self._databases += 1
        with psycopg.connect(f"{self.conninfo} dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE test{self._databases}".encode())
        return f"{self.conninfo} dbname=test{self._databases}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"{self.conninfo} dbname=postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def __enter__(self) -> Self:
        if self._user:
            open_to_others(self._folder, 0o055)
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust"]
        subprocess.run([*self._as_user, *command, "--no-sync"], check=True, stdout=subprocess.DEVNULL)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _programs() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for place in _PLACES:
        if found_in := sorted(Path("/").glob(f"{place[1:]}/initdb")):
            return found_in[-1].parent
    raise AssertionError("no PostgreSQL server here: install the package 'postgresql', as `make test` does")
