"""The keys at work: one object that everybody who signs or verifies asks, swapped whole between two calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from issuer.core.jwk import PublicKeySet
    from issuer.core.key_ring import KeyRing
    from issuer.signing.key_file import KeyFileSigner
    from issuer.signing.key_folder import HeldKeys


class SigningKeys:
    """A :class:`~issuer.ports.Signer` whose key can be another one from one call to the next.

    Whoever signs in several steps takes :meth:`active` once: header and signature are then of one key, in whatever
    thread, and whatever is swapped meanwhile.

    Args:
        held: The keys to begin with.
    """

    def __init__(self, held: HeldKeys) -> None:
        self._watchers: list[Callable[[], None]] = []
        self._take(held)

    def _take(self, held: HeldKeys) -> None:
        # In this order: a thread that signs by a key finds it published.
        self._public, self._known, self._held = held.ring.published, held.ring.known, held

    def use(self, held: HeldKeys) -> None:
        """Sign and verify by other keys from now on."""
        self._take(held)
        for changed in self._watchers:
            changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever the keys are others."""
        self._watchers.append(changed)

    @property
    def held(self) -> HeldKeys:
        """The keys of now."""
        return self._held

    @property
    def ring(self) -> KeyRing:
        """Their public halves, and those of the keys before."""
        return self._held.ring

    @property
    def algorithm(self) -> str:
        """The JWS ``alg`` of the active key."""
        return self._held.active.algorithm

    @property
    def key_id(self) -> str:
        """The ``kid`` of the active key."""
        return self._held.active.key_id

    def active(self) -> KeyFileSigner:
        """Return the key that signs now."""
        return self._held.active

    def sign(self, signing_input: bytes) -> bytes:
        """Sign by the active key.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, when the library cannot use the key.
        """
        return self._held.active.sign(signing_input)

    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        """Sign each by the active key.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, likewise.
        """
        return self._held.active.sign_all(signing_inputs)

    def public_keys(self) -> PublicKeySet:
        """Return every key that a verifier should know."""
        return self._public

    def known_keys(self) -> PublicKeySet:
        """Return those, and the ones before them."""
        return self._known

    def signed_from(self, key_id: str) -> tuple[int, int | None] | None:
        """Return between which moments what a key signed was decided, in microseconds; ``None`` for a key not ours."""
        return self.ring.signed_from(key_id)

    def may_have_signed(self, time: int) -> Iterable[str]:
        """Return the ``kid`` of each key that may have signed what was decided at a moment, in microseconds."""
        return self.ring.may_have_signed(time)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._held.active!r})"
