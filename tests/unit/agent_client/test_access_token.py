from __future__ import annotations

import copy
import pickle

import pytest

from agent_client.access_token import AccessToken

SECRET = "eyJh.eyJz.c2ln"


def test_reveal_is_the_only_way_to_the_text() -> None:
    token = AccessToken(SECRET)
    assert token.reveal() == SECRET
    for shown in (repr(token), str(token), f"{token}", f"{token!s:>40}".strip(), f"{[token]}", "%s" % token):  # noqa: UP031
        assert SECRET not in shown
    assert not hasattr(token, "__dict__")


def test_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps(AccessToken(SECRET))


def test_a_copy_is_the_token_itself() -> None:
    token = AccessToken(SECRET)
    assert copy.copy(token) is token
    assert copy.deepcopy([token])[0] is token


def test_none_is_false_and_reveals_nothing() -> None:
    assert AccessToken(SECRET)
    assert not AccessToken("")
    with pytest.raises(ValueError, match="validate_only"):
        AccessToken("").reveal()
