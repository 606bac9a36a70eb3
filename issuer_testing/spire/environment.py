"""A running SPIRE: one server, one agent on this host, one trust domain. What a test or ``issuer dev up`` works with.

:class:`Spire` knows SPIRE; :class:`Programs` knows how its two programs are run here. There are two of those, host
processes and containers, and one contract suite (``tests/contract/test_spire.py``) that both pass.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from issuer_testing.deadline import wait_until
from issuer_testing.spire.development_files import CONFIGURATION
from issuer_testing.spire.server_commands import RegisteredEntry, ServerCommands, SpireRefused
from issuer_testing.spire.svids import fetch_svids, serial_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from issuer_testing.spire.entry import Entry

# Half a second on a quiet machine; many tests may run beside it on two cores.
START_SECONDS = 60.0
SVID_SECONDS = 60.0
START_ATTEMPTS = 3
_LOG_TAIL = 4000


class SpireEnded(RuntimeError):
    """A SPIRE program ended although nobody asked it to. The message holds the end of its log."""


class Programs(Protocol):
    """Where ``spire-server`` and ``spire-agent`` run. ``folder`` is what they and this process see under one name."""

    folder: Path
    kind: str

    def start_server(self) -> None:
        """Start the server, on another port each time."""
        ...

    def start_agent(self) -> None:
        """Start the agent, from what ``folder`` holds."""
        ...

    def kill_agent(self) -> None:
        """Kill the agent as a crash would, and return when it is gone."""
        ...

    def server_command(self, *arguments: str) -> str:
        """Run ``spire-server`` with a subcommand against the running server; return its standard output.

        Raises:
            SpireRefused: Its exit code is not 0.
        """
        ...

    def agent_command(self, *arguments: str) -> str:
        """Run ``spire-agent`` likewise."""
        ...

    def ended(self) -> str | None:
        """Return which program ended by itself, in words; ``None`` while all is well."""
        ...

    def logs(self) -> str:
        """Return what both programs wrote."""
        ...

    def stop(self) -> None:
        """Stop what runs, and remove everything. Stopping twice does no harm."""
        ...


@dataclass(frozen=True, slots=True)
class Workload:
    """An identity that this process's user can have from SPIRE now.

    Attributes:
        spiffe_id: Which of the user's SVIDs is meant; a user may have several.
        socket: The value for ``SPIFFE_ENDPOINT_SOCKET``.
        entry_id: For :meth:`Spire.delete_entry` and :meth:`Spire.update_entry`.
    """

    spiffe_id: str
    socket: str
    entry_id: str


class Spire:
    """A running SPIRE with an attested agent. Not for production: what it keeps, it keeps in a temporary folder."""

    def __init__(self, programs: Programs, trust_domain: str, origin: str) -> None:
        self._programs = programs
        self.trust_domain = trust_domain
        self.origin = origin
        self._server = ServerCommands(programs.server_command, programs.folder)

    @classmethod
    def start(cls, programs: Programs, trust_domain: str, origin: str, say: Callable[[str], None]) -> Self:
        """Start server and agent and return when the agent serves the Workload API; a second, ordinarily.

        Args:
            programs: Not started yet; stopped again when anything goes wrong.
            trust_domain: The name without scheme.
            origin: Where the programs come from, in words.
            say: Called with one line of progress at a time.

        Raises:
            SpireEnded: A program ended.
            DeadlineExceeded: It took longer than a minute. Both messages hold the end of the logs.
        """
        spire = cls(programs, trust_domain, origin)
        try:
            for name in ("server.conf", "agent.conf"):
                shutil.copy(CONFIGURATION / name, programs.folder)
            say(f"SPIRE: from {origin}, as {programs.kind}; trust domain {trust_domain}")
            spire._start_server()
            spire._join_agent()
            say(f"SPIRE: ready; Workload API at {spire.socket}")
        except BaseException:
            programs.stop()
            raise
        return spire

    @property
    def socket(self) -> str:
        """The value for ``SPIFFE_ENDPOINT_SOCKET``."""
        return f"unix://{self._programs.folder / 'agent.sock'}"

    @property
    def kind(self) -> str:
        """How the programs run: ``host processes`` or ``containers``."""
        return self._programs.kind

    @property
    def node_id(self) -> str:
        """The SPIFFE ID that entries for this host have as their parent."""
        return f"spiffe://{self.trust_domain}/dev-host"

    def placed(self, entry: Entry) -> Entry:
        """Return the entry for this host and the user of this process, whatever host and user its file names."""
        return entry.on(self.node_id, f"unix:uid:{os.getuid()}")

    def workload(self, entry: Entry) -> Workload:
        """Register an entry for this user and return when its SVID is there; a second, ordinarily.

        The entry's own parent and selectors are replaced (:meth:`placed`): registering for others is
        :meth:`create_entry`.

        Raises:
            SpireRefused: The entry is already there, or is not valid.
            DeadlineExceeded: The SVID did not arrive in a minute. The message holds the end of the logs.
        """
        before = serial_numbers(fetch_svids(self.socket))
        entry_id = self.create_entry(self.placed(entry))
        wait_until(
            lambda: any(
                str(svid.spiffe_id) == entry.spiffe_id and svid.leaf.serial_number not in before
                for svid in fetch_svids(self.socket)
            ),
            what=f"the Workload API gives an SVID for {entry.spiffe_id}",
            seconds=SVID_SECONDS,
            detail=self._log_tail,
        )
        return Workload(spiffe_id=entry.spiffe_id, socket=self.socket, entry_id=entry_id)

    def create_entry(self, entry: Entry) -> str:
        """Register an entry as it is and return its id. The agent hears of it within about a second.

        Raises:
            SpireRefused: The entry is already there, or is not valid.
        """
        return self._server.create_entry(entry)

    def update_entry(self, entry_id: str, entry: Entry) -> None:
        """Replace an entry's fields.

        Raises:
            SpireRefused: There is no such entry, or it is not valid.
        """
        self._server.update_entry(entry_id, entry)

    def delete_entry(self, entry_id: str) -> None:
        """Remove an entry. The agent hears of it within about a second.

        Raises:
            SpireRefused: There is no such entry.
        """
        self._server.delete_entry(entry_id)

    def entries(self) -> tuple[RegisteredEntry, ...]:
        """Return every registered entry, the one that makes the agent this host included."""
        return self._server.entries()

    def bundle(self) -> str:
        """Return the trust bundle in SPIFFE's form, for another SPIRE's :meth:`set_federated_bundle`."""
        return self._server.bundle()

    def set_federated_bundle(self, trust_domain: str, bundle: str) -> None:
        """Trust another domain: entries may now name ``spiffe://<trust_domain>`` in ``federates_with``.

        Raises:
            SpireRefused: It is no bundle.
        """
        self._server.set_federated_bundle(trust_domain, bundle)

    def delete_federated_bundle(self, trust_domain: str) -> None:
        """No longer trust another domain.

        Raises:
            SpireRefused: Its bundle was never set.
        """
        self._server.delete_federated_bundle(trust_domain)

    def kill_agent(self) -> None:
        """Kill the agent, as a crash would. Its socket answers nobody until :meth:`start_agent`."""
        self._programs.kill_agent()

    def start_agent(self) -> None:
        """Start the agent again and return when it serves; it comes back as the same agent.

        Raises:
            SpireEnded: It ended at once.
            DeadlineExceeded: It took longer than a minute.
        """
        self._programs.start_agent()
        self._wait_for("the SPIRE agent serves the Workload API", self._agent_is_healthy)

    def logs(self) -> str:
        """Return what server and agent wrote."""
        return self._programs.logs()

    def stop(self) -> None:
        """Stop both programs and leave nothing behind. Stopping twice does no harm."""
        self._programs.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_server(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self._programs.start_server()
            try:
                self._wait_for("the SPIRE server answers", self._server_is_healthy)
            except SpireEnded as ended:
                # Another process may have taken the port between our look and the server's bind.
                if attempt == START_ATTEMPTS or "address already in use" not in str(ended):
                    raise
            else:
                return

    def _join_agent(self) -> None:
        """Give the agent what it starts from: the server's bundle, and a token that makes it this host."""
        folder = self._programs.folder
        (folder / "bundle.pem").write_text(self._server.bundle_pem(), encoding="ascii")
        token = folder / "join_token"
        token.touch(mode=0o600)
        token.write_text(self._server.join_token(self.node_id), encoding="ascii")
        self.start_agent()

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        def running_and_true() -> bool:
            ended = self._programs.ended()
            if ended:
                raise SpireEnded(f"{ended}\n{self._log_tail()}")
            return condition()

        wait_until(running_and_true, what=what, seconds=START_SECONDS, detail=self._log_tail)

    def _server_is_healthy(self) -> bool:
        return _succeeds(self._programs.server_command)

    def _agent_is_healthy(self) -> bool:
        return _succeeds(self._programs.agent_command)

    def _log_tail(self) -> str:
        return self.logs()[-_LOG_TAIL:]


def _succeeds(command: Callable[..., str]) -> bool:
    try:
        command("healthcheck")
    except SpireRefused:
        return False
    return True
