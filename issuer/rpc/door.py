"""Refuses a call before anything is done for it, where the queue would refuse it afterwards.

What refusing costs is taken from answering, so under more load than the issuer can bear it decides how much is
answered. Here a call has cost its transport, a look at who presented this certificate before, and one at the queue: no
message was read, no clock, no id, no trace, no log line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.rpc.rpc_rules import is_for_callers

if TYPE_CHECKING:
    from issuer.core.verdicts import CallerVerifier
    from issuer.rpc.turns import TurnedAway, Turns


class Door:
    """Stands before a pipeline.

    Args:
        turns: Those of the pipeline.
        verifier: Its verifier, which remembers who presented what.
    """

    def __init__(self, turns: Turns, verifier: CallerVerifier) -> None:
        self._turns = turns
        self._verifier = verifier

    @property
    def busy(self) -> bool:
        """Whether there may be a call to refuse; where nobody waits, there is none."""
        return self._turns.waiting > 0

    def turn_away(
        self, method: str, leaf_pem: bytes | None, intermediates_pem: bytes | None, within: float | None
    ) -> TurnedAway | None:
        """Refuse a call; ``None`` if it may go on to the pipeline, which decides.

        Who presented this chain before is looked up and not verified again: who would be refused for another reason
        hears of that when it asks less. Methods that take no turn are never refused.

        Args:
            method: The full name, ``package.Service/Method``.
            leaf_pem: The certificate whose key TLS has proved.
            intermediates_pem: The rest of what was presented.
            within: Seconds until the caller no longer waits; ``None`` when it did not say.
        """
        if not is_for_callers(method):
            return None
        caller = self._verifier.known(leaf_pem, intermediates_pem)
        return None if caller is None else self._turns.turn_away(caller.spiffe_id, within)
