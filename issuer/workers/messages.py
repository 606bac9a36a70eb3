"""What supervisor and workers ask each other, by name; the values are those of MessagePack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from issuer.core.fact_text import fact_list_from_text, facts_text
from issuer.core.instants import microseconds, moment
from issuer.policy_files.directory import KeptGenerations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from issuer.core.facts import Fact

# Of a worker to the supervisor.
BEGIN: Final = "begin"
"""What do I need to know? Answered by a :class:`Beginning`."""
FAILED: Final = "failed"
"""I cannot start, for this reason. No answer."""
LISTENING: Final = "listening"
"""I accept calls. No answer."""
READINESS: Final = "readiness"
"""Whether I serve, and why not. No answer."""
METRICS: Final = "metrics"
"""What I counted. No answer."""
LEDGER_HANGS: Final = "ledger_hangs"
"""The process of the ledger does not answer. No answer."""
RELOAD: Final = "reload"
"""Load the policy, for this actor. Answered when every worker decides by it."""
ROLL_BACK: Final = "roll_back"
"""Go back to the policy with this digest, for this actor. Likewise."""
TELL_FACTS: Final = "tell_facts"
"""These facts were told to me, at this time. Answered when they count in every worker."""
CHANGE_KEYS: Final = "change_keys"
"""Do this with the keys: one of the :class:`~issuer.ports.KeyAdmin`'s methods, a ``kid``, whether by force, for this
actor. Answered by all keys, when each worker signs and verifies by them."""

# Of the supervisor to a worker.
PREPARE: Final = "prepare"
"""Load these files of policy. Answered by their digest."""
ADOPT: Final = "adopt"
"""Decide by this policy from now on. Answered by its digest."""
REFUSED: Final = "refused"
"""A policy was not put in force, for this reason. No answer."""
PUT_FACTS: Final = "put_facts"
"""These facts count from now on."""
REOPEN: Final = "reopen"
"""Go on in the file that has the name of the decision log now. No answer."""

USE_KEYS: Final = "use_keys"
"""Sign and verify by these keys from now on. Answered by the same."""


class Beginning(NamedTuple):
    """What a worker begins with.

    Attributes:
        config: The path of the configuration file, for what is relative to it.
        text: Its text, as the supervisor read it: it may have been changed since.
        insecure_dev: Serve the embedded development authority.
        listen: ``host:port`` for gRPC, the port that the supervisor holds.
        oauth_listen: The same for introspection and revocation over HTTP; ``None`` where nothing listens for them.
        ledger: The socket of the process that owns an SQLite ledger.
        copy_lock: The file whose lock is held while lines of the decision log are written.
        policies: The packed files of each kept policy, and when it was loaded.
        digest: Which of them is in force.
        pinned: Whether a rollback holds it.
        facts: What feeders told, by feeder, as text.
        keys: The signing keys, their public halves, as text. A worker reads private halves from their files.
    """

    config: str
    text: str
    insecure_dev: bool
    listen: str
    oauth_listen: str | None
    ledger: str
    copy_lock: str
    policies: Sequence[tuple[bytes, int]]
    digest: str
    pinned: bool
    facts: Mapping[str, str]
    keys: str

    def kept(self) -> KeptGenerations:
        """Return the policies."""
        return KeptGenerations(
            [(files, moment(loaded_at)) for files, loaded_at in self.policies], self.digest, self.pinned
        )


def policies_told(kept: KeptGenerations) -> list[tuple[bytes, int]]:
    """Return policies as :attr:`Beginning.policies`."""
    return [(files, microseconds(loaded_at)) for files, loaded_at in kept.generations]


def facts_told(facts: Mapping[str, Sequence[Fact]]) -> dict[str, str]:
    """Return facts as :attr:`Beginning.facts`."""
    return {feeder: facts_text(each) for feeder, each in facts.items()}


def facts_heard(told: Mapping[str, Any]) -> dict[str, list[Fact]]:
    """Return the facts of :func:`facts_told`."""
    return {feeder: fact_list_from_text(text) for feeder, text in told.items()}
