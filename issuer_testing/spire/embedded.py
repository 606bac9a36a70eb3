"""The embedded development authority: a Workload API and a CA in this process, for a first look without SPIRE.

It attests nobody: whoever reaches a socket gets the identity that the socket was made for. So it serves only ``.test``
trust domains (RFC 6761 section 6.2: never in use anywhere), says at start what it is, and keeps its sockets in a folder
of the current user.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from issuer_testing.spire.authority import DEFAULT_TTL, Authority, IssuedSvid, utc_now
from issuer_testing.spire.entry import Entry
from issuer_testing.spire.workload_api import Answer, WorkloadApiServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.x509 import Certificate

WARNING = (
    "The embedded development authority attests nobody: any process of this user that opens one of its sockets gets "
    "that socket's identity. For a first look only; trust domain {trust_domain}."
)


class EmbeddedWorkload:
    """One workload of the development authority.

    Attributes:
        entries: Its identities, the default one first.
        api: Its Workload API, for tests that push faults. SVIDs that a test pushed are left alone, not rotated away.
    """

    def __init__(self, entries: tuple[Entry, ...], answer: Answer, due: datetime) -> None:
        self.entries = entries
        self.api = WorkloadApiServer(answer)
        self._issued, self._due = answer.svids, due

    @property
    def spiffe_id(self) -> str:
        """The default identity."""
        return self.entries[0].spiffe_id

    @property
    def socket(self) -> str:
        """The value for ``SPIFFE_ENDPOINT_SOCKET``."""
        return self.api.socket

    @property
    def svid(self) -> IssuedSvid:
        """The default SVID as it is now."""
        return self.api.answer.svids[0]

    @property
    def due(self) -> datetime | None:
        """When the authority replaces its SVIDs; ``None`` while they are not the authority's."""
        return self._due if self.api.answer.svids is self._issued else None

    def give(self, svids: tuple[IssuedSvid, ...], due: datetime) -> None:
        """Push SVIDs of the authority, to be replaced when ``due``."""
        self._issued, self._due = svids, due
        self.api.change(svids=svids)


class DevelopmentAuthority:
    """A ``.test`` trust domain with one root, which issues to every workload that :meth:`workload` opens.

    SVIDs rotate at half of their life, as SPIRE's do. Usable from any thread and beside any event loop.
    """

    def __init__(
        self,
        trust_domain: str = "dev.test",
        *,
        ttl: timedelta = DEFAULT_TTL,
        announce: Callable[[str], None],
    ) -> None:
        """Make the root.

        Args:
            trust_domain: A name that ends with ``.test``.
            ttl: The lifetime of SVIDs whose entry names none.
            announce: Called at :meth:`start` with the sentence that says what this is.

        Raises:
            ValueError: The trust domain is not below ``.test``.
        """
        if not trust_domain.endswith(".test"):
            raise ValueError(
                f"{trust_domain}: the embedded development authority serves only trust domains that end with .test "
                f"(try {trust_domain.rpartition('.')[0] or trust_domain}.test), for it attests nobody; "
                "for any other name use a real SPIRE"
            )
        self.authority = Authority(trust_domain)
        self._ttl, self._announce = ttl, announce
        self._workloads: list[EmbeddedWorkload] = []
        self._federated: dict[str, tuple[Certificate, ...]] = {}
        self._wake = threading.Condition()
        self._running = False
        self._rotation: threading.Thread | None = None

    @property
    def trust_domain(self) -> str:
        """The name without scheme."""
        return self.authority.trust_domain

    def start(self) -> None:
        """Say what this is, and begin to rotate."""
        self._announce(WARNING.format(trust_domain=self.trust_domain))
        self._running = True
        self._rotation = threading.Thread(target=self._rotate_when_due, name="svid-rotation", daemon=True)
        self._rotation.start()

    def stop(self) -> None:
        """Close every socket and end the rotation."""
        with self._wake:
            self._running = False
            self._wake.notify_all()
        if self._rotation:
            self._rotation.join()
        for workload in self._workloads:
            workload.api.close()
        self._workloads.clear()

    def workload(self, *identities: Entry | str) -> EmbeddedWorkload:
        """Open a Workload API for one more workload.

        Args:
            identities: SPIFFE IDs, or entries for those with a DNS name, a hint or a lifetime; the first is the
                default. An entry's parent and selectors mean nothing here.

        Raises:
            ValueError: No identity, or one of another trust domain.
        """
        entries = tuple(Entry(identity) if isinstance(identity, str) else identity for identity in identities)
        self._check(entries)
        answer = replace(Answer.of(self.authority, *self._issue(entries)), federated=dict(self._federated))
        workload = EmbeddedWorkload(entries, answer, self._due(entries))
        workload.api.start()
        with self._wake:
            self._workloads.append(workload)
            self._wake.notify_all()
        return workload

    def rotate(self, workload: EmbeddedWorkload) -> IssuedSvid:
        """Issue anew to one workload, now, and return its new default SVID."""
        with self._wake:
            workload.give(self._issue(workload.entries), self._due(workload.entries))
            self._wake.notify_all()
        return workload.svid

    def federate(self, other: Authority) -> None:
        """Give the other trust domain's root to every workload, present and future."""
        with self._wake:
            self._federated[other.trust_domain] = (other.root,)
            for workload in self._workloads:
                workload.api.change(federated=dict(self._federated))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check(self, entries: tuple[Entry, ...]) -> None:
        if not entries:
            raise ValueError("a workload needs at least one SPIFFE ID")
        for entry in entries:
            if not entry.spiffe_id.startswith(f"spiffe://{self.trust_domain}/"):
                raise ValueError(f"{entry.spiffe_id} is not of the trust domain {self.trust_domain}")

    def _issue(self, entries: tuple[Entry, ...]) -> tuple[IssuedSvid, ...]:
        return tuple(
            replace(
                self.authority.issue(entry.spiffe_id, ttl=self._lifetime(entry), dns_names=entry.dns_names),
                hint=entry.hint,
            )
            for entry in entries
        )

    def _lifetime(self, entry: Entry) -> timedelta:
        return timedelta(seconds=entry.x509_svid_ttl) or self._ttl

    def _due(self, entries: tuple[Entry, ...]) -> datetime:
        """Return when SVIDs issued now are to be replaced: at half of the shortest life."""
        return utc_now() + min(self._lifetime(entry) for entry in entries) / 2

    def _rotate_when_due(self) -> None:
        with self._wake:
            while self._running:
                due = [workload.due for workload in self._workloads if workload.due is not None]
                # Without anything due, wait for a call; a second at most, as a test may push our SVIDs back.
                self._wake.wait(min((moment - utc_now()).total_seconds() for moment in due) if due else 1.0)
                for workload in self._workloads:
                    if workload.due is not None and workload.due <= utc_now():
                        workload.give(self._issue(workload.entries), self._due(workload.entries))
