"""The signing keys as a worker has them: those that the supervisor tells, changed by asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.key_ring_text import ring_from_text
from issuer.signing.key_folder import HeldKeys
from issuer.workers import messages
from issuer.workers.channel import ChannelClosed

if TYPE_CHECKING:
    from issuer.core.key_ring import KeyRing
    from issuer.signing.key_folder import KeyFolder
    from issuer.signing.signing_keys import SigningKeys
    from issuer.workers.channel import Channel

CHANGE_SECONDS: Final = 20.0
"""For a commit, a few files, and the answers of all workers."""


class KeysInUse:
    """The keys of this worker.

    Args:
        folder: Where private halves are.
        keys: The keys at work.
    """

    def __init__(self, folder: KeyFolder, keys: SigningKeys) -> None:
        self._folder = folder
        self._keys = keys

    def use(self, text: str) -> str:
        """Use the keys that are told; return them as told, once they are used.

        What was prepared is in memory already, and no file is in the way of its activation.

        Raises:
            KeyFileError: The private half of the active key is not there.
        """
        ring, held = ring_from_text(text), self._keys.held
        if held.next is not None and ring.active.key_id == held.next.key_id and ring.next is None:
            self._keys.use(HeldKeys(ring, held.next, None))
        elif ring.active == held.ring.active and (ring.next and ring.next.jwk) == (
            held.ring.next and held.ring.next.jwk
        ):
            self._keys.use(held._replace(ring=ring))
        else:
            self._keys.use(self._folder.hold(ring))
        return text


class SharedKeys:
    """A :class:`~issuer.ports.KeyAdmin` of all workers.

    Args:
        channel: To the supervisor, which changes those of all.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def listed(self) -> KeyRing:
        """Return the keys, as the supervisor has them."""
        return await self._changed("list", "", force=False, actor="")

    async def prepare(self, *, actor: str) -> KeyRing:
        """Make the next key, and let every worker publish it.

        Raises:
            AdminRefused: KEY_CHANGE_REFUSED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        return await self._changed("prepare", "", force=False, actor=actor)

    async def activate(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Let every worker sign by the next key.

        Raises:
            AdminRefused: KEY_UNKNOWN, KEY_CHANGE_REFUSED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        return await self._changed("activate", key_id, force=force, actor=actor)

    async def remove(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Let no worker publish a key any more.

        Raises:
            AdminRefused: KEY_UNKNOWN, KEY_CHANGE_REFUSED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        return await self._changed("remove", key_id, force=force, actor=actor)

    async def _changed(self, how: str, key_id: str, *, force: bool, actor: str) -> KeyRing:
        argument = [how, key_id, force, actor]
        try:
            return ring_from_text(await self._channel.ask(messages.CHANGE_KEYS, argument, within=CHANGE_SECONDS))
        except (ChannelClosed, TimeoutError):
            raise TemporarilyUnavailable(
                Reason.LEDGER_UNAVAILABLE, "the supervisor does not answer; the issuer is stopping"
            ) from None
