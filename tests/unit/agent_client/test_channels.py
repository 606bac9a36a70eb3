from __future__ import annotations

import pytest

from agent_client.balancer import Attempt
from agent_client.channels import ChannelPool
from agent_client.credentials import ChannelMaterial
from agent_client.errors import ClientClosed
from agent_client.token_checks import CallerIdentity


def material(key: bytes) -> ChannelMaterial:
    return ChannelMaterial(CallerIdentity("spiffe://a.test/b", bytes(32)), b"roots", b"chain", key)


FIRST, SECOND = material(b"1"), material(b"2")


class Pool(ChannelPool[str]):
    """Channels are named for their address and key."""

    def __init__(self) -> None:
        self.opened = 0
        super().__init__(self._made)

    def begin(self, material: ChannelMaterial, address: str = "a") -> tuple[Attempt, str]:
        attempt = Attempt(address)
        return attempt, self.lease(attempt, material)

    def _made(self, address: str, material: ChannelMaterial) -> str:
        self.opened += 1
        return f"{address}{material.private_key.decode()}"


def test_calls_share_one_channel_of_each_address_while_nothing_changes() -> None:
    channels = Pool()
    assert [channels.begin(FIRST, address)[1] for address in ("a", "b", "a")] == ["a1", "b1", "a1"]
    assert channels.begin(material(b"1"))[1] == "a1"
    assert channels.opened == 2


def test_a_replaced_channel_is_closed_when_its_last_call_has_ended() -> None:
    channels = Pool()
    (one, _), (other, _) = channels.begin(FIRST), channels.begin(FIRST)
    new, channel = channels.begin(SECOND)
    assert channel == "a2"
    assert channels.release(one) == []
    assert channels.release(new) == []
    assert channels.release(other) == ["a1"]
    assert channels.release(channels.begin(SECOND)[0]) == []


def test_replaced_channels_without_calls_are_closed_after_the_next_one() -> None:
    channels = Pool()
    for address in ("a", "b"):
        channels.release(channels.begin(FIRST, address)[0])
    assert channels.release(channels.begin(SECOND)[0]) == ["a1", "b1"]


def test_an_attempt_that_was_broken_off_before_it_had_a_channel_can_be_released() -> None:
    channels = Pool()
    assert channels.release(Attempt()) == []
    attempt, _ = channels.begin(FIRST)
    channels.begin(SECOND)
    assert channels.release(attempt) == ["a1"]
    assert channels.release(attempt) == []


def test_closing_gives_every_channel_once_and_no_more() -> None:
    channels = Pool()
    (old, _), (new, _) = channels.begin(FIRST), channels.begin(SECOND, "b")
    assert sorted(channels.close()) == ["a1", "b2"]
    assert channels.close() == []
    assert channels.release(old) == channels.release(new) == []
    with pytest.raises(ClientClosed):
        channels.begin(FIRST)


def test_material_does_not_show_its_key() -> None:
    assert "SECRET" not in repr(material(b"SECRET"))
