"""What was decided at once is signed at once: each by its key, in order, and with turns for others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.draft_signing import SIGNED_AT_ONCE, sign_each
from issuer.signing.es256 import Es256Signer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Named(Es256Signer):
    """Signs by its name; unable to once it was asked for more than ``able`` signatures."""

    def __init__(self, name: bytes, able: int = 10_000) -> None:
        super().__init__(generate_private_key(SECP256R1()))
        self._name = name
        self._able = able
        self.asked: list[int] = []

    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        self.asked.append(len(signing_inputs))
        if sum(self.asked) > self._able:
            raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the key cannot be used")
        return [self._name + each for each in signing_inputs]


async def test_each_is_signed_by_the_key_that_it_names() -> None:
    """The keys were changed between two decisions."""
    old, new = Named(b"old "), Named(b"new ")
    assert await sign_each([(old, b"1"), (old, b"2"), (new, b"3")]) == [b"old 1", b"old 2", b"new 3"]
    assert (old.asked, new.asked) == ([2], [1])


async def test_a_key_that_cannot_be_used_does_not_keep_another_from_signing() -> None:
    broken, works = Named(b"", able=0), Named(b"works ")
    refused, also, signed = await sign_each([(broken, b"1"), (broken, b"2"), (works, b"3")])
    assert isinstance(refused, TemporarilyUnavailable)
    assert refused.reason is Reason.SIGNER_UNAVAILABLE
    assert refused is also
    assert signed == b"works 3"


async def test_others_get_a_turn_while_many_are_signed() -> None:
    signer, turns = Named(b""), [0]

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    signatures = await sign_each([(signer, b"%d" % number) for number in range(3 * SIGNED_AT_ONCE + 1)])
    other.cancel()
    assert signatures == [b"%d" % number for number in range(3 * SIGNED_AT_ONCE + 1)]
    assert signer.asked == [SIGNED_AT_ONCE] * 3 + [1]
    assert turns[0] >= 3


async def test_what_was_signed_before_a_fault_stays_signed() -> None:
    signer = Named(b"", able=SIGNED_AT_ONCE)
    signatures = await sign_each([(signer, b"x")] * (SIGNED_AT_ONCE + 1))
    assert signatures[:-1] == [b"x"] * SIGNED_AT_ONCE
    assert isinstance(signatures[-1], TemporarilyUnavailable)


async def test_nothing_to_sign_is_no_signature() -> None:
    assert await sign_each([]) == []
