from __future__ import annotations

import pytest

from agent_client.channels import ChannelPool
from agent_client.credentials import ChannelMaterial
from agent_client.errors import ClientClosed
from agent_client.token_checks import CallerIdentity


def material(key: bytes) -> ChannelMaterial:
    return ChannelMaterial(CallerIdentity("spiffe://a.test/b", bytes(32)), b"roots", b"chain", key)


FIRST, SECOND = material(b"1"), material(b"2")


def pool() -> ChannelPool[bytes]:
    """Channels are named for their key."""
    return ChannelPool(lambda material: b"channel " + material.private_key)


def test_calls_share_one_channel_while_nothing_changes() -> None:
    channels = pool()
    assert channels.lease(FIRST) is channels.lease(material(b"1"))


def test_a_replaced_channel_is_closed_when_its_last_call_has_ended() -> None:
    channels = pool()
    one, other = channels.lease(FIRST), channels.lease(FIRST)
    new = channels.lease(SECOND)
    assert new.channel == b"channel 2"
    assert channels.release(one) == []
    assert channels.release(new) == []
    assert channels.release(other) == [b"channel 1"]
    assert channels.release(channels.lease(SECOND)) == []


def test_a_replaced_channel_without_calls_is_closed_after_the_next_one() -> None:
    channels = pool()
    channels.release(channels.lease(FIRST))
    assert channels.release(channels.lease(SECOND)) == [b"channel 1"]


def test_closing_gives_every_channel_once_and_no_more() -> None:
    channels = pool()
    old, new = channels.lease(FIRST), channels.lease(SECOND)
    assert sorted(channels.close()) == [b"channel 1", b"channel 2"]
    assert channels.close() == []
    assert channels.release(old) == channels.release(new) == []
    with pytest.raises(ClientClosed):
        channels.lease(FIRST)


def test_material_does_not_show_its_key() -> None:
    assert "SECRET" not in repr(material(b"SECRET"))
